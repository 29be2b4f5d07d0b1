//! Mean, least and greatest of numbers that come one after another.

/// Mean, least and greatest of a run's returns or episode lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Adds a number.
    pub fn add(&mut self, value: f64) {
        (self.min, self.max) =
            if self.count == 0 { (value, value) } else { (self.min.min(value), self.max.max(value)) };
        self.count += 1;
        self.sum += value;
    }

    /// Mean, least and greatest; none if there were no numbers.
    #[expect(clippy::cast_precision_loss, reason = "nobody plays 2^53 episodes")]
    pub fn figures(&self) -> Option<(f64, f64, f64)> {
        (self.count > 0).then(|| (self.sum / self.count as f64, self.min, self.max))
    }

    /// The sum of both.
    pub(crate) fn with(self, other: Spread) -> Spread {
        match (self.count, other.count) {
            (_, 0) => self,
            (0, _) => other,
            _ => Spread {
                count: self.count + other.count,
                sum: self.sum + other.sum,
                min: self.min.min(other.min),
                max: self.max.max(other.max),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_of_nothing_has_no_figures() {
        let mut spread = Spread::default();
        assert_eq!(spread.figures(), None);
        [3.0, -1.0, 4.0].into_iter().for_each(|value| spread.add(value));
        assert_eq!(spread.figures(), Some((2.0, -1.0, 4.0)));
        assert_eq!(spread.with(Spread::default()), spread);
        assert_eq!(Spread::default().with(spread), spread);
    }
}
