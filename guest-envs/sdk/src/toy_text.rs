//! Parts that the toy text envs share: ice that carries aside, colours of a terminal, and the board that a grid is
//! drawn on.

use crate::draw::{Canvas, Color, corners, text_width, turned};
use crate::space::BoxSpace;
use crate::{Frame, NumpyRng};

crate::info! {
    /// What a step tells beside the observation.
    pub struct Chance in ChanceSpace {
        /// How probable the transition was; 1 after a reset.
        prob: BoxSpace<f64>,
    }
}

impl Chance {
    /// The probability of the transition that was taken.
    #[must_use]
    pub fn of(prob: f64) -> Self {
        Self { prob: Some(prob) }
    }
}

impl Default for ChanceSpace {
    fn default() -> Self {
        Self { prob: BoxSpace::all(0.0, 1.0) }
    }
}

/// Draws what an action of a grid world turns into: the action, and its probability.
///
/// Actions go round, each the left neighbour of the next. `slips` are the probabilities of the action before, of the
/// action meant and of the action after. Without `slips` nothing is left to chance, but a number is drawn all the same,
/// as in Gymnasium.
pub fn slip(rng: &mut NumpyRng, action: i64, actions: i64, slips: Option<[f64; 3]>) -> (i64, f64) {
    let Some(weights) = slips else {
        rng.categorical(&[1.0]);
        return (action, 1.0);
    };
    let drawn = rng.categorical(&weights);
    let aside = match drawn {
        0 => actions - 1,
        1 => 0,
        _ => 1,
    };
    ((action + aside) % actions, weights[drawn])
}

/// Puts `text` between a terminal's escape sequences: `codes` is `41` for a red ground, `34;1` for bold blue.
#[must_use]
pub fn colored(text: &str, codes: &str) -> String {
    format!("\x1b[{codes}m{text}\x1b[0m")
}

/// The colour of letters and figures.
pub const INK: Color = [51, 54, 69];
const CLOTHES: Color = [176, 96, 86];
const SKIN: Color = [238, 205, 176];
const FLAG: Color = [214, 92, 84];

/// A grid of square tiles to draw on.
#[derive(Clone, Debug)]
pub struct Board {
    canvas: Canvas,
    side: f64,
}

impl Board {
    /// A board of `rows` by `columns` tiles, at most `side` pixels each: as many as keep the picture within 1,024 by
    /// 1,024, and one at least. `ground` is its colour, `lines` that between tiles.
    ///
    /// # Panics
    ///
    /// If there are no tiles.
    #[must_use]
    #[track_caller]
    pub fn new((rows, columns): (usize, usize), side: u32, ground: Color, lines: Color) -> Self {
        const LARGEST: u32 = 1024;
        let count = |tiles: usize| u32::try_from(tiles).unwrap_or(u32::MAX);
        let (rows, columns) = (count(rows), count(columns));
        let side = side.min(LARGEST / rows.max(columns)).max(1);
        let (width, height) = (columns.saturating_mul(side), rows.saturating_mul(side));
        let mut canvas = Canvas::new(width, height, ground);
        if side >= 8 {
            let (side, width, height) = (f64::from(side), f64::from(width), f64::from(height));
            (1..rows).for_each(|row| canvas.rectangle((0.0, f64::from(row) * side - 1.0), (width, 2.0), lines));
            (1..columns)
                .for_each(|column| canvas.rectangle((f64::from(column) * side - 1.0, 0.0), (2.0, height), lines));
        }
        Self { canvas, side: side.into() }
    }

    /// The width and height of a tile, in pixels.
    #[must_use]
    pub fn side(&self) -> f64 {
        self.side
    }

    /// The pixel at a place within a tile: (0, 0) is its upper left, (1, 1) its lower right corner.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a picture has few tiles")]
    pub fn at(&self, (row, column): (usize, usize), (x, y): (f64, f64)) -> (f64, f64) {
        ((column as f64 + x) * self.side, (row as f64 + y) * self.side)
    }

    /// The canvas, for shapes that only one env draws.
    pub fn canvas(&mut self) -> &mut Canvas {
        &mut self.canvas
    }

    /// Colours a tile except for a margin (a part of its side) around it; corners are round by as much.
    pub fn tile(&mut self, place: (usize, usize), margin: f64, color: Color) {
        let from = self.at(place, (margin, margin));
        let size = self.side * (1.0 - 2.0 * margin);
        self.canvas.rounded(from, (size, size), margin * self.side, color);
    }

    /// Writes a letter into a tile's upper left corner.
    pub fn letter(&mut self, place: (usize, usize), letter: &str, color: Color) {
        let at = self.at(place, (0.1, 0.1));
        self.canvas.text(letter, at, 0.25 * self.side, color);
    }

    /// Writes a letter into a tile's middle.
    pub fn label(&mut self, place: (usize, usize), letter: &str, color: Color) {
        let size = 0.35 * self.side;
        let (x, y) = self.at(place, (0.5, 0.5));
        self.canvas.text(letter, (x - text_width(letter, size) / 2.0, y - size / 2.0), size, color);
    }

    /// Plants a flag.
    pub fn flag(&mut self, place: (usize, usize)) {
        let [foot, top, point, low] =
            [(0.45, 0.85), (0.45, 0.3), (0.8, 0.42), (0.45, 0.55)].map(|within| self.at(place, within));
        self.canvas.line(&[foot, top], self.side * 0.05, INK);
        self.canvas.polygon(&[top, point, low], FLAG);
    }

    /// Draws a figure on a tile.
    pub fn figure(&mut self, place: (usize, usize)) {
        let [head, neck, left, right] =
            [(0.5, 0.34), (0.5, 0.5), (0.4, 0.86), (0.6, 0.86)].map(|within| self.at(place, within));
        let (hips, arms) = (self.at(place, (0.5, 0.68)), [(0.32, 0.62), (0.68, 0.62)]);
        let width = self.side * 0.07;
        for foot in [left, right] {
            self.canvas.line(&[hips, foot], width, INK);
        }
        for hand in arms {
            let hand = self.at(place, hand);
            self.canvas.line(&[neck, hand], width, CLOTHES);
        }
        let body = turned(corners(-0.1, -0.02, 0.1, 0.24).map(|(x, y)| (x * self.side, y * self.side)), 0.0, neck);
        self.canvas.polygon(&body, CLOTHES);
        self.canvas.disc(head, self.side * 0.13, INK);
        self.canvas.disc(head, self.side * 0.1, SKIN);
    }

    /// The finished picture.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        self.canvas.into_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_go_to_either_side_and_always_draw() {
        let weights = [0.25, 0.5, 0.25];
        let mut met = [0; 4];
        let mut rng = NumpyRng::new(3);
        for _ in 0..1000 {
            let (action, prob) = slip(&mut rng, 0, 4, Some(weights));
            met[usize::try_from(action).expect("an action")] += 1;
            assert_eq!(prob, if action == 0 { 0.5 } else { 0.25 });
        }
        assert!(met[2] == 0 && met[0] > 400 && met[1] > 150 && met[3] > 150, "{met:?}");
        let (mut firm, mut drawn) = (NumpyRng::new(3), NumpyRng::new(3));
        assert_eq!(slip(&mut firm, 2, 4, None), (2, 1.0));
        drawn.random();
        assert_eq!(firm.next_u64(), drawn.next_u64());
    }

    #[test]
    fn a_board_of_any_size_has_a_picture() {
        for (tiles, expected) in [((4, 4), (256, 256)), ((1, 100), (1000, 10)), ((2000, 3), (3, 2000))] {
            let mut board = Board::new(tiles, 64, [255; 3], [0; 3]);
            board.figure((0, 0));
            board.flag((0, 0));
            let Frame::Rgb(image) = board.into_frame() else { panic!() };
            assert_eq!((image.width, image.height), expected);
        }
    }
}
