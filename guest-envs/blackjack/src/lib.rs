//! Blackjack: draw cards to come closer to 21 than the dealer, without going over.
//!
//! Gymnasium's `Blackjack-v1`, card for card, with an infinite deck.
//!
//! | action |       |   | observation                        |
//! |--------|-------|---|------------------------------------|
//! | 0      | stick |   | the player's sum (Discrete 32)     |
//! | 1      | hit   |   | the dealer's open card, 1 is an ace (Discrete 11) |
//! |        |       |   | 1 if the player has an ace that counts 11 (Discrete 2) |

use rollcage_sdk::draw::{Color, Point, text_width};
use rollcage_sdk::prelude::*;

/// The cards of a suit: an ace is 1; jack, queen and king are 10.
const DECK: [i64; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10];
/// The sum from which on the dealer stands.
const DEALER_STANDS: i64 = 17;
/// The greatest sum: a hand beyond it is lost.
const LIMIT: i64 = 21;
const SUITS: [Suit; 4] = [Suit::Clubs, Suit::Diamonds, Suit::Hearts, Suit::Spades];
/// The faces of cards of 10 that are drawn as pictures.
const FACES: [&str; 3] = ["J", "Q", "K"];

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Pay 1.5 for winning with an ace and a ten, as casinos do. Without effect while `sab` is set.
        pub natural: bool = false,
        /// Follow the book of Sutton and Barto: an ace and a ten win at once, unless the dealer has them too.
        pub sab: bool = true,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct Blackjack {
    config: Config,
    dealer: Hand,
    player: Hand,
    /// The suit of the dealer's open card, for the picture.
    suit: Suit,
    value: String,
}

impl Environment for Blackjack {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = (Discrete, Discrete, Discrete);
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "blackjack";
    const SUMMARY: &'static str = "Come closer to 21 than the dealer without going over (Gymnasium's Blackjack-v1)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 4;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, dealer: Hand::default(), player: Hand::default(), suit: Suit::Clubs, value: String::new() })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new((Discrete::new(32), Discrete::new(11), Discrete::new(2)), Discrete::new(2))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.dealer = Hand::deal(rng);
        self.player = Hand::deal(rng);
        self.suit = SUITS[rng.choice(SUITS.len())];
        self.value = match self.dealer.first {
            1 => "A".to_owned(),
            10 => FACES[rng.choice(FACES.len())].to_owned(),
            value => value.to_string(),
        };
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let (reward, terminated) = if action == 1 {
            self.player.draw(rng);
            if self.player.is_bust() { (-1.0, true) } else { (0.0, false) }
        } else {
            while self.dealer.sum() < DEALER_STANDS {
                self.dealer.draw(rng);
            }
            (self.settle(), true)
        };
        Ok(Step::new(self.observation(), reward).terminated(terminated))
    }

    /// Draws the dealer's open card and the hidden one, and the player's sum: 384 by 376 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        const WIDTH: u32 = 384;
        const TABLE: Color = [58, 122, 86];
        const EDGE: Color = [44, 98, 68];
        const CHALK: Color = [236, 240, 226];
        const BACK: Color = [178, 74, 70];
        const CARD: Point = (92.0, 130.0);

        let mut canvas = Canvas::new(WIDTH, 376, TABLE);
        canvas.rectangle((0.0, 206.0), (f64::from(WIDTH), 3.0), EDGE);
        canvas.text("DEALER", (24.0, 24.0), 18.0, CHALK);
        let (open, hidden) = ((86.0, 58.0), (206.0, 58.0));
        canvas.rounded(open, CARD, 8.0, [255; 3]);
        canvas.text(&self.value, (open.0 + 10.0, open.1 + 10.0), 22.0, self.suit.color());
        self.suit.draw(&mut canvas, (open.0 + CARD.0 / 2.0, open.1 + 80.0), 26.0);
        canvas.rounded(hidden, CARD, 8.0, [255; 3]);
        canvas.rounded((hidden.0 + 6.0, hidden.1 + 6.0), (CARD.0 - 12.0, CARD.1 - 12.0), 5.0, BACK);
        canvas.rounded((hidden.0 + 14.0, hidden.1 + 14.0), (CARD.0 - 28.0, CARD.1 - 28.0), 4.0, [204, 112, 104]);

        canvas.text("PLAYER", (24.0, 226.0), 18.0, CHALK);
        let middle = |text: &str, size: f64| (f64::from(WIDTH) - text_width(text, size)) / 2.0;
        let sum = self.player.sum().to_string();
        canvas.text(&sum, (middle(&sum, 56.0), 258.0), 56.0, CHALK);
        if self.player.has_usable_ace() {
            let ace = "usable ace";
            canvas.text(ace, (middle(ace, 14.0), 336.0), 14.0, CHALK);
        }
        Ok(canvas.into_frame())
    }
}

impl Blackjack {
    fn observation(&self) -> (i64, i64, i64) {
        (self.player.sum(), self.dealer.first, i64::from(self.player.has_usable_ace()))
    }

    /// The reward of the player once both have their cards.
    fn settle(&self) -> f64 {
        let (player, dealer) = (self.player.score(), self.dealer.score());
        let reward = f64::from(i8::from(player > dealer) - i8::from(player < dealer));
        let Config { natural, sab } = self.config;
        match self.player.is_natural() {
            true if sab && !self.dealer.is_natural() => 1.0,
            true if !sab && natural && reward == 1.0 => 1.5,
            _ => reward,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suit {
    Clubs,
    Diamonds,
    Hearts,
    Spades,
}

impl Suit {
    fn color(self) -> Color {
        match self {
            Self::Clubs | Self::Spades => [40, 42, 54],
            Self::Diamonds | Self::Hearts => [196, 58, 58],
        }
    }

    /// Draws the sign, `size` pixels from its middle to its farthest point.
    fn draw(self, canvas: &mut Canvas, (x, y): Point, size: f64) {
        let color = self.color();
        let at = |dx: f64, dy: f64| (x + dx * size, y + dy * size);
        let stem = [at(0.0, 0.1), at(0.3, 1.0), at(-0.3, 1.0)];
        match self {
            Self::Clubs => {
                for (dx, dy) in [(0.0, -0.5), (-0.45, 0.2), (0.45, 0.2)] {
                    canvas.disc(at(dx, dy), 0.42 * size, color);
                }
                canvas.polygon(&stem, color);
            }
            Self::Diamonds => canvas.polygon(&[at(0.0, -1.0), at(0.7, 0.0), at(0.0, 1.0), at(-0.7, 0.0)], color),
            Self::Hearts => {
                for dx in [-0.4, 0.4] {
                    canvas.disc(at(dx, -0.35), 0.45 * size, color);
                }
                canvas.polygon(&[at(-0.8, -0.15), at(0.0, -0.5), at(0.8, -0.15), at(0.0, 0.95)], color);
            }
            Self::Spades => {
                for dx in [-0.4, 0.4] {
                    canvas.disc(at(dx, 0.25), 0.45 * size, color);
                }
                canvas.polygon(&[at(-0.8, 0.05), at(0.0, -1.0), at(0.8, 0.05), at(0.0, 0.4)], color);
                canvas.polygon(&stem, color);
            }
        }
    }
}

/// A hand of cards, reduced to what the rules look at.
#[derive(Clone, Copy, Debug, Default)]
struct Hand {
    cards: u32,
    /// The card dealt first: the dealer's open one.
    first: i64,
    /// The sum with every ace as 1.
    hard_sum: i64,
    has_ace: bool,
}

impl Hand {
    fn deal(rng: &mut NumpyRng) -> Self {
        let mut hand = Self::default();
        hand.draw(rng);
        hand.draw(rng);
        hand
    }

    fn draw(&mut self, rng: &mut NumpyRng) {
        let card = DECK[rng.choice(DECK.len())];
        if self.cards == 0 {
            self.first = card;
        }
        self.cards += 1;
        self.hard_sum += card;
        self.has_ace |= card == 1;
    }

    /// Whether an ace can count 11.
    fn has_usable_ace(&self) -> bool {
        self.has_ace && self.hard_sum + 10 <= LIMIT
    }

    fn sum(&self) -> i64 {
        if self.has_usable_ace() { self.hard_sum + 10 } else { self.hard_sum }
    }

    fn is_bust(&self) -> bool {
        self.sum() > LIMIT
    }

    /// The sum, or 0 for a hand that went over.
    fn score(&self) -> i64 {
        if self.is_bust() { 0 } else { self.sum() }
    }

    /// Whether the hand is an ace and a ten, as dealt.
    fn is_natural(&self) -> bool {
        self.cards == 2 && self.has_ace && self.hard_sum == 11
    }
}

rollcage_sdk::export!(Blackjack);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    fn hand(cards: &[i64]) -> Hand {
        let (first, hard_sum) = (cards[0], cards.iter().sum());
        Hand { cards: u32::try_from(cards.len()).expect("few"), first, hard_sum, has_ace: cards.contains(&1) }
    }

    #[test]
    fn aces_count_eleven_while_they_can() {
        for (cards, sum, usable) in [
            (&[1, 10][..], 21, true),
            (&[1, 1], 12, true),
            (&[1, 5, 10], 16, false),
            (&[10, 5], 15, false),
            (&[1, 10, 10], 21, false),
        ] {
            let hand = hand(cards);
            assert_eq!((hand.sum(), hand.has_usable_ace()), (sum, usable), "{cards:?}");
        }
        assert!(hand(&[10, 1]).is_natural() && !hand(&[1, 5, 5]).is_natural() && !hand(&[5, 6]).is_natural());
    }

    #[test]
    fn naturals_pay_by_the_rules_chosen() {
        let natural = &[1, 10][..];
        // natural, sab, the player's and the dealer's cards, the reward
        for (pays, sab, player, dealer, reward) in [
            (false, true, natural, &[10, 5, 6][..], 1.0),
            (false, true, natural, natural, 0.0),
            (true, true, natural, &[10, 9], 1.0),
            (true, false, natural, &[10, 9], 1.5),
            (true, false, natural, &[10, 5, 6], 0.0),
            (false, false, natural, &[10, 9], 1.0),
            (true, false, &[10, 10], &[10, 9], 1.0),
            (true, false, &[10, 8], natural, -1.0),
            (false, true, &[10, 8], &[10, 6, 10], 1.0),
        ] {
            let config = Config { natural: pays, sab };
            let mut table = Blackjack::create(config.clone()).expect("a config");
            (table.player, table.dealer) = (hand(player), hand(dealer));
            assert_eq!(table.settle(), reward, "{config:?} {player:?} {dealer:?}");
        }
    }

    #[test]
    fn defaults_are_the_registrys() {
        let env = Native::<Blackjack>::new("{}").expect("the defaults");
        assert!(env.env().config.sab && !env.env().config.natural);
        let spec = env.spec();
        assert_eq!((spec.max_episode_steps, spec.reward_threshold), (None, None));
    }

    #[test]
    fn a_stick_ends_the_episode() {
        let mut env = Native::<Blackjack>::new("{}").expect("the defaults");
        env.reset(Some(3), None).expect("a reset");
        assert!(env.step(0).expect("a step").terminated);
        assert_eq!(env.step(0).map(|step| step.reward), Err(EnvError::NeedsReset));
    }

    #[test]
    fn the_picture_shows_what_was_drawn() {
        let mut env = Native::<Blackjack>::new("{}").expect("the defaults");
        let mut seen = Vec::new();
        for seed in 0..40 {
            env.reset(Some(seed), None).expect("a reset");
            let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
            assert_eq!((image.width, image.height), (384, 376));
            // Below its middle every sign has its colour.
            assert_eq!(image.pixels[(146 * 384 + 132) * 3..][..3], env.env().suit.color());
            seen.push((env.env().suit, env.env().value.clone()));
        }
        assert!(SUITS.iter().all(|suit| seen.iter().any(|(drawn, _)| drawn == suit)));
        assert!(FACES.iter().all(|face| seen.iter().any(|(_, value)| value == face)));
    }
}
