//! A soccer simulator for tests: it speaks to an agent as `rcssserver3d` does, in agent sync mode, and has a toy's physics.
//!
//!     soccer [--port N]
//!
//! Without a port, or with 0, the system chooses one; the first line of stdout is `listening on 127.0.0.1:PORT`. It takes one
//! client, logs what that says of itself (`scene …`, `init …`), answers every `(syn)` by one cycle of 20 ms, and ends when
//! the client leaves. The same effectors give the same perceptions.
//!
//! The protocol is the SimSpark wiki's ("Network Protocol", "Perceptors", "Effectors"). What differs: the ball is free
//! before kick-off, there is no kick-off, and a beam is always taken and puts the ball back into the middle, so that an
//! episode can begin without a trainer.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose output a test reads")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

/// Seconds of a cycle.
const CYCLE: f64 = 0.02;
/// Cycles between two looks.
const EYES: u64 = 3;
/// Half of what the eyes see, to the sides and up and down, degrees.
const VIEW: f64 = 60.0;
/// Metres from the ground to the eyes, and a ball's radius.
const HEAD: f64 = 0.54;
const BALL: f64 = 0.042;
/// Metres from hip to knee and from knee to foot; how far a hip is from the middle; how far the toes are from the foot.
const THIGH: f64 = 0.12;
const SHIN: f64 = 0.11;
const HIP: f64 = 0.055;
const TOES: f64 = 0.08;
/// How far aside of the foot's middle a ball is still hit.
const WIDTH: f64 = 0.06;
/// How much faster than the foot a ball leaves it.
const BOUNCE: f64 = 1.6;
/// How much of its speed a rolling ball keeps, and below which it lies.
const ROLLING: f64 = 0.98;
const LYING: f64 = 0.01;
/// Degrees that a leg is lifted sideways when the robot falls over.
const BALANCE: f64 = 24.0;
/// What a client may send at once.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Joints with their bounds in degrees, in the order in which a Nao reports them.
const JOINTS: [(&str, f64, f64); 22] = [
    ("hj1", -120.0, 120.0),
    ("hj2", -45.0, 45.0),
    ("raj1", -120.0, 120.0),
    ("raj2", -95.0, 1.0),
    ("raj3", -120.0, 120.0),
    ("raj4", -1.0, 90.0),
    ("laj1", -120.0, 120.0),
    ("laj2", -1.0, 95.0),
    ("laj3", -120.0, 120.0),
    ("laj4", -90.0, 1.0),
    ("rlj1", -90.0, 1.0),
    ("rlj2", -45.0, 25.0),
    ("rlj3", -25.0, 100.0),
    ("rlj4", -130.0, 1.0),
    ("rlj5", -45.0, 75.0),
    ("rlj6", -25.0, 45.0),
    ("llj1", -90.0, 1.0),
    ("llj2", -25.0, 45.0),
    ("llj3", -25.0, 100.0),
    ("llj4", -130.0, 1.0),
    ("llj5", -45.0, 75.0),
    ("llj6", -45.0, 25.0),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(0),
        ["--port", port] => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: soccer [--port N]");
        return ExitCode::from(2);
    };
    match serve(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soccer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    say(&format!("listening on {}", listener.local_addr()?))?;
    let (mut client, _) = listener.accept()?;
    // The next one is refused.
    drop(listener);
    client.set_nodelay(true)?;
    let mut game = Game::default();
    while let Some(message) = receive(&mut client)? {
        for effector in lists(&message) {
            if effector == ["syn"] {
                game.cycle();
                let perception = game.perception();
                let length = u32::try_from(perception.len()).expect("a few kilobytes");
                client.write_all(&[&length.to_be_bytes(), perception.as_bytes()].concat())?;
            } else {
                game.take(&effector)?;
            }
        }
    }
    Ok(())
}

/// A line of stdout, at once.
fn say(line: &str) -> std::io::Result<()> {
    println!("{line}");
    std::io::stdout().flush()
}

/// One message, or nothing after the last.
fn receive(client: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut length = [0; 4];
    match client.read_exact(&mut length) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(std::io::Error::other(format!("a message of {length} bytes")));
    }
    let mut message = vec![0; length];
    client.read_exact(&mut message)?;
    Ok(Some(String::from_utf8_lossy(&message).into_owned()))
}

/// The words of each outermost list: an effector has no more structure than that.
fn lists(message: &str) -> Vec<Vec<&str>> {
    let (mut lists, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in message.char_indices() {
        match letter {
            '(' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            ')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let words = message[start..at].split(|letter: char| " \n\t()".contains(letter));
                    lists.push(words.filter(|word| !word.is_empty()).collect());
                }
            }
            _ => {}
        }
    }
    lists
}

/// A robot and a ball.
#[derive(Default)]
struct Game {
    cycles: u64,
    /// Number and team, once they are known.
    player: Option<(String, String)>,
    /// Metres from the middle, and degrees to the left.
    place: [f64; 3],
    angles: BTreeMap<&'static str, f64>,
    /// Radians a second.
    speeds: BTreeMap<&'static str, f64>,
    ball: [f64; 2],
    velocity: [f64; 2],
    fallen: bool,
}

impl Game {
    fn take(&mut self, effector: &[&str]) -> std::io::Result<()> {
        match effector {
            ["scene", scene] => say(&format!("scene {scene}"))?,
            ["init", "unum", number, "teamname", team] => {
                self.player = Some(((*number).to_owned(), (*team).to_owned()));
                say(&format!("init unum {number} teamname {team}"))?;
            }
            ["beam", x, y, turn] => {
                if let (Ok(x), Ok(y), Ok(turn)) = (x.parse(), y.parse(), turn.parse()) {
                    self.place = [x, y, turn];
                    (self.ball, self.velocity, self.fallen) = ([0.0; 2], [0.0; 2], false);
                }
            }
            [name, speed] => {
                // A joint's effector has its perceptor's name, with another letter.
                let joint = JOINTS.iter().find(|(joint, ..)| joint.replace('j', "e") == *name);
                if let (Some((joint, ..)), Ok(speed)) = (joint, speed.parse::<f64>()) {
                    self.speeds.insert(joint, speed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn angle(&self, joint: &str) -> f64 {
        self.angles.get(joint).copied().unwrap_or_default()
    }

    /// How far the toes of a leg are before the hips.
    fn reach(&self, leg: char) -> f64 {
        let hip = self.angle(&format!("{leg}lj3")).to_radians();
        let knee = hip + self.angle(&format!("{leg}lj4")).to_radians();
        THIGH * hip.sin() + SHIN * knee.sin() + TOES
    }

    fn cycle(&mut self) {
        self.cycles += 1;
        let before = ['l', 'r'].map(|leg| self.reach(leg));
        for (joint, low, high) in JOINTS {
            let speed = self.speeds.get(joint).copied().unwrap_or_default();
            let angle = self.angle(joint) + (speed * CYCLE).to_degrees();
            self.angles.insert(joint, angle.clamp(low, high));
        }
        self.fallen |= ["llj2", "rlj2"].iter().any(|joint| self.angle(joint).abs() > BALANCE);

        let [forwards, left] = self.seen_from_the_robot();
        for (leg, before) in ['l', 'r'].into_iter().zip(before) {
            let reach = self.reach(leg);
            let speed = (reach - before) / CYCLE;
            let aside = left - if leg == 'l' { HIP } else { -HIP };
            // A foot that swept over the ball's near edge has hit it.
            let hits = before <= forwards && forwards - BALL <= reach && aside.abs() <= WIDTH;
            if hits && speed > 0.0 && !self.fallen {
                let (sin, cos) = self.place[2].to_radians().sin_cos();
                self.velocity = [BOUNCE * speed * cos, BOUNCE * speed * sin];
            }
        }
        for (axis, velocity) in self.velocity.iter_mut().enumerate() {
            self.ball[axis] += *velocity * CYCLE;
            *velocity *= ROLLING;
        }
        if self.velocity[0].hypot(self.velocity[1]) < LYING {
            self.velocity = [0.0; 2];
        }
    }

    /// The ball over ground, forwards and to the left.
    fn seen_from_the_robot(&self) -> [f64; 2] {
        let [x, y, turn] = self.place;
        let (sin, cos) = turn.to_radians().sin_cos();
        let (x, y) = (self.ball[0] - x, self.ball[1] - y);
        [x * cos + y * sin, y * cos - x * sin]
    }

    /// Distance, degrees to the left and upwards of where the head looks; none if the ball is not in view.
    fn ball_from_the_head(&self) -> Option<[f64; 3]> {
        let [forwards, left] = self.seen_from_the_robot();
        let up = BALL - HEAD;
        let (sin, cos) = self.angle("hj2").to_radians().sin_cos();
        let (ahead, above) = (forwards * cos + up * sin, up * cos - forwards * sin);
        let (azimuth, elevation) = (left.atan2(ahead).to_degrees(), above.atan2(ahead.hypot(left)).to_degrees());
        let in_view = azimuth.abs() <= VIEW && elevation.abs() <= VIEW;
        in_view.then(|| [ahead.hypot(left).hypot(above), azimuth, elevation])
    }

    fn perception(&self) -> String {
        let mut text = String::new();
        // Seconds to two places, as the server has them.
        let time = f64::from(u32::try_from(self.cycles).unwrap_or(u32::MAX)) * CYCLE;
        let acceleration = if self.fallen { "9.81 0.00 0.00" } else { "0.00 0.00 9.81" };
        let player =
            self.player.as_ref().map(|(number, _)| format!(" (unum {number}) (team left)")).unwrap_or_default();
        let written = write!(
            text,
            "(time (now {time:.2}))(GS{player} (sl 0) (sr 0) (t 0.00) (pm BeforeKickOff))\
             (GYR (n torso) (rt 0.00 0.00 0.00))(ACC (n torso) (a {acceleration}))"
        );
        written.expect("a text takes all");
        for (joint, ..) in JOINTS {
            text.push_str(&format!("(HJ (n {joint}) (ax {:.2}))", self.angle(joint)));
        }
        if self.cycles.is_multiple_of(EYES) && !self.fallen {
            let ball = self
                .ball_from_the_head()
                .map(|[distance, azimuth, elevation]| format!(" (B (pol {distance:.2} {azimuth:.2} {elevation:.2}))"));
            let ball = ball.unwrap_or_default();
            text.push_str(&format!("(See (G2R (pol 15.05 -4.00 1.00)){ball})"));
        }
        text
    }
}
