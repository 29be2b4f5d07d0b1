//! Short kick: a humanoid robot stands before a ball and moves one leg until the ball has gone some way, in the
//! simulator of RoboCup's 3D soccer league.
//!
//! The simulator is the real program, `rcssserver3d`, which the env talks to over TCP as an agent does: messages are a
//! length of four bytes, the highest first, and an S-expression; see "Network Protocol", "Perceptors" and "Effectors"
//! in the SimSpark wiki. It must be in agent sync mode (`$agentSyncMode = true` in its `spark.rb`), where every `(syn)`
//! is answered by one cycle of 20 ms, which is one step here:
//!
//! ```sh
//! rcssserver3d --agent-port 3100 --server-port 3200
//! ```
//!
//! | action (float32) |                                                                                 |
//! |------------------|---------------------------------------------------------------------------------|
//! | 0 … 5            | speeds of the leg's joints in rad/s: hip yaw-pitch, hip roll, hip pitch, knee pitch, foot pitch, foot roll |
//!
//! | observation (float32) |                                                                            |
//! |-----------------------|----------------------------------------------------------------------------|
//! | 0 … 5                 | angles of these joints, degrees                                            |
//! | 6, 7, 8               | the ball as last seen from the head, which looks down: distance in m, to the left and upwards in degrees |
//! | 9, 10                 | its velocity over ground between the last two sights, forwards and to the left, m/s |
//! | 11                    | how long ago it was seen, s: the eyes open in every third cycle            |
//! | 12, 13, 14            | the torso's acceleration, m/s²; standing still it is (0, 0, 9.81)          |
//! | 15, 16, 17            | the torso's turn rates, degrees/s                                          |
//!
//! The reward is how far the ball went forwards since it was last seen, in metres, and less 1 when the robot falls. An
//! episode ends when the ball is `kick_distance` from where it lay, or the robot has fallen.
//!
//! A reset stops the leg, brings it back, and beams the robot to its place. That is all an agent can do: it has no way
//! to put the ball back, or to say when play begins, which is a trainer's part. The server takes a beam only before
//! kick-off and after a goal, and keeps the ball in the middle until kick-off; later an episode begins where the last
//! one ended. `info` has the play mode. A server that a trainer keeps ready, or a new one for each env, has none of
//! these limits.

mod sexpr;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rollcage_sdk::error::words;
use rollcage_sdk::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;
use sexpr::{Expr, find};

/// The number of joints of a leg.
const JOINTS: usize = 6;
/// The speed, rad/s, at which the Nao model turns a joint at most, roughly: 7 degrees a cycle.
const SPEED_MAX: f32 = 6.14;
/// The length of a cycle, in seconds.
const CYCLE: f32 = 0.02;
/// The head's pitch, degrees upwards: as far down as it goes. Otherwise a ball before the feet is out of sight.
const HEAD_PITCH: f32 = -45.0;
/// The reward of a fall.
const FALL_REWARD: f64 = -1.0;
/// Gravity along the torso, m/s², of a robot that stands; and the value below which it lies, after smoothing.
const UPRIGHT: f32 = 9.81;
const FALLEN: f32 = 5.0;
/// The share of a cycle's acceleration that the smoothing takes over.
const SMOOTHING: f32 = 0.1;
/// Cycles after the beam and the waiting in which the ball must be seen: more than three, since the eyes open in every
/// third cycle.
const SIGHT_CYCLES: u32 = 10;

/// Bytes of one message. A perception with 21 other robots in sight has about 6 kB; a longer message is not from such a
/// server.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Characters of a message that an error quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// What can be configured.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server is: an address or a name.
    #[serde(default = "Config::default_server_ip")]
    #[schemars(length(min = 1, max = 253))]
    pub server_ip: String,
    /// Its port for agents (the program's own default is 3100): another server for every env.
    #[schemars(range(min = 1))]
    pub server_port: u16,
    /// The team's name: letters, digits, `_` and `-`.
    #[serde(default = "Config::default_team")]
    #[schemars(length(min = 1, max = 32))]
    pub team: String,
    /// The player's number.
    #[serde(default = "Config::default_unum")]
    #[schemars(range(min = 1, max = 11))]
    pub unum: u8,
    /// The robot's model, a file of the server's.
    #[serde(default = "Config::default_scene")]
    #[schemars(length(min = 1, max = 128))]
    pub scene: String,
    /// The leg that kicks.
    #[serde(default)]
    pub leg: Leg,
    /// Where an episode begins: metres from the middle towards the other goal and to the left, and a turn to the left in
    /// degrees. The ball lies in the middle.
    #[serde(default = "Config::default_beam")]
    pub beam: [f64; 3],
    /// Cycles of 20 ms after the beam, in which the robot comes to stand.
    #[serde(default = "Config::default_settle_cycles")]
    #[schemars(range(min = 1, max = 1000))]
    pub settle_cycles: u32,
    /// How far the ball must go, in metres.
    #[serde(default = "Config::default_kick_distance")]
    #[schemars(range(min = 0.01, max = 30.0))]
    pub kick_distance: f64,
    /// Steps of 20 ms after which an episode is truncated.
    #[serde(default = "Config::default_max_episode_steps")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_episode_steps: u32,
}

impl Config {
    fn default_server_ip() -> String {
        "127.0.0.1".to_owned()
    }

    fn default_team() -> String {
        "rollcage".to_owned()
    }

    fn default_unum() -> u8 {
        1
    }

    fn default_scene() -> String {
        "rsg/agent/nao/nao.rsg".to_owned()
    }

    fn default_beam() -> [f64; 3] {
        [-0.2, 0.05, 0.0]
    }

    fn default_settle_cycles() -> u32 {
        50
    }

    fn default_kick_distance() -> f64 {
        1.0
    }

    fn default_max_episode_steps() -> u32 {
        250
    }

    /// Server and port as one text.
    fn address(&self) -> String {
        let Self { server_ip: ip, server_port: port, .. } = self;
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    }
}

rollcage_sdk::choices! {
    /// The leg that kicks.
    #[derive(Default)]
    pub enum Leg {
        Left = "left",
        #[default]
        Right = "right",
    }
}

impl Leg {
    /// The letter that the names of its joints begin with.
    fn letter(self) -> char {
        match self {
            Self::Left => 'l',
            Self::Right => 'r',
        }
    }
}

rollcage_sdk::info! {
    /// What a step tells beside the observation. That of a reset also has `play_mode`, as the server names it.
    pub struct Kick in KickSpace {
        /// Metres between the ball and where it lay when the episode began, as last seen.
        ball_moved: BoxSpace<f64>,
        /// Whether the robot has fallen.
        fallen: Discrete,
    }
}

/// The env.
#[derive(Debug)]
pub struct ShortKick {
    config: Config,
    server: Server,
    senses: Senses,
    /// The ball over ground, in metres forwards and to the left, when the episode began.
    start: [f32; 2],
}

impl Environment for ShortKick {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[f32; 18]>;
    type ActionSpace = BoxSpace<[f32; JOINTS]>;
    type InfoSpace = KickSpace;

    const NAME: &'static str = "short-kick";
    const SUMMARY: &'static str = "Kick a ball with one leg of a humanoid, in RoboCup's 3D soccer simulator";
    const WANTS: &'static [Want] = &[
        Want {
            kind: WantKind::TcpConnect,
            example: "127.0.0.1:{agent}",
            reason: "the robot and the ball are in a simulator, which is reached there",
            required: true,
        },
        Want {
            kind: WantKind::Lease,
            example: "agent:3100-3199",
            reason: "every env needs a simulator with a port of its own, unless it is given one by `server_port`",
            required: false,
        },
        Want {
            kind: WantKind::Service,
            example: "rcssserver3d --agent-port {agent}",
            reason: "the simulator is a program beside the env, and somebody must start one for each",
            required: false,
        },
    ];

    fn create(config: Config) -> Result<Self, CreateError> {
        // Both become parts of S-expressions.
        let in_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        if !config.team.chars().all(in_a_name) {
            return Err(CreateError::config("team", "letters, digits, `_` and `-` make a team's name"));
        }
        if !config.scene.chars().all(|letter| in_a_name(letter) || letter == '/' || letter == '.') {
            return Err(CreateError::config("scene", "letters, digits, `_`, `-`, `.` and `/` make a model's path"));
        }
        let server = Server::connect(&config).map_err(CreateError::failed)?;
        let mut env = Self { config, server, senses: Senses::default(), start: [0.0; 2] };
        let scene = format!("(scene {})", env.config.scene);
        let init = format!("(init (unum {})(teamname {}))", env.config.unum, env.config.team);
        for effectors in [scene, init] {
            env.cycle(&effectors).map_err(|what| {
                CreateError::failed(format!("{} does not take the robot in: {what}", env.config.address()))
            })?;
        }
        Ok(env)
    }

    fn spec(&self) -> Spec<Self> {
        const ANY: f32 = f32::INFINITY;
        let mut high = [ANY; 18];
        high[..JOINTS].fill(180.0);
        (high[7], high[8]) = (180.0, 90.0);
        let mut low = high.map(|bound| -bound);
        (low[6], low[11]) = (0.0, 0.0);
        let info = KickSpace { ball_moved: BoxSpace::all(0.0, f64::INFINITY), fallen: Discrete::new(2) };
        Spec::with_info(BoxSpace::new(low, high), BoxSpace::all(-SPEED_MAX, SPEED_MAX), info)
            .max_episode_steps(self.config.max_episode_steps)
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        let [x, y, turn] = self.config.beam;
        let beam = format!("(beam {x} {y} {turn})");
        let (joints, head_pitch) = (self.senses.joints, self.senses.head_pitch);
        self.senses = Senses { joints, head_pitch, ..Senses::default() };
        for cycle in 0..self.config.settle_cycles {
            // The leg goes back to where it began, as fast as it can.
            let joints = self.joints(self.senses.joints.map(|angle| towards(angle, 0.0)));
            let effectors = if cycle == 0 { format!("{beam}{joints}") } else { joints };
            self.step_server(&effectors)?;
        }
        // What was seen on the way was seen from elsewhere.
        (self.senses.ball, self.senses.upright) = (None, UPRIGHT);
        for _ in 0..SIGHT_CYCLES {
            self.step_server(&self.joints([0.0; JOINTS]))?;
            if let Some(ball) = &self.senses.ball {
                self.start = ball.ground;
                let kick = Kick { ball_moved: Some(0.0), fallen: Some(0) };
                let view = View::new(self.senses.observation()).info(kick);
                return Ok(view.extra("play_mode", self.senses.play_mode.as_str()));
            }
        }
        Err(EnvError::failed(format!(
            "the ball is not in sight from the place to begin, in play mode {}",
            quoted(&self.senses.play_mode)
        )))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: [f32; JOINTS]) -> Result<Step<Self>, EnvError> {
        let before = self.senses.ball.as_ref().map_or(self.start, |ball| ball.ground);
        let effectors = self.joints(action);
        self.step_server(&effectors)?;

        let now = self.senses.ball.as_ref().map_or(before, |ball| ball.ground);
        let moved = f64::from((now[0] - self.start[0]).hypot(now[1] - self.start[1]));
        let fallen = self.senses.upright < FALLEN;
        let reward = f64::from(now[0] - before[0]) + if fallen { FALL_REWARD } else { 0.0 };
        let kick = Kick { ball_moved: Some(moved), fallen: Some(i64::from(fallen)) };
        let terminated = fallen || moved >= self.config.kick_distance;
        Ok(Step::new(self.senses.observation(), reward).terminated(terminated).info(kick))
    }

    fn close(&mut self) {
        // A robot whose connection ends is taken off the field. Nobody is left to tell if it has ended already.
        let _ = self.server.stream.shutdown(Shutdown::Both);
    }
}

impl ShortKick {
    /// Runs one cycle, and reads the perception after it.
    fn cycle(&mut self, effectors: &str) -> Result<(), String> {
        self.server.send(&format!("{effectors}(syn)"))?;
        let message = self.server.receive()?;
        let wrong = |what: String| format!("{what}, in {}", quoted(&message));
        let perceptors = sexpr::parse(&message).map_err(wrong)?;
        self.senses.perceive(&perceptors, self.config.leg).map_err(wrong)
    }

    fn step_server(&mut self, effectors: &str) -> Result<(), EnvError> {
        self.cycle(effectors).map_err(|what| EnvError::failed(format!("{}: {what}", self.config.address())))
    }

    /// The effectors of the leg's joints, and of the head's, which keeps looking down.
    fn joints(&self, speeds: [f32; JOINTS]) -> String {
        let letter = self.config.leg.letter();
        let effector = |(index, speed): (usize, f32)| format!("({letter}le{} {speed:.4})", index + 1);
        let leg: String = speeds.into_iter().enumerate().map(effector).collect();
        format!("{leg}(he2 {:.4})", towards(self.senses.head_pitch, HEAD_PITCH))
    }
}

/// The speed, rad/s, that brings a joint from one angle to another, in degrees, in a cycle, or as fast as it can.
fn towards(angle: f32, target: f32) -> f32 {
    ((target - angle).to_radians() / CYCLE).clamp(-SPEED_MAX, SPEED_MAX)
}

/// The perception of the robot, kept because the server does not repeat itself in every message.
#[derive(Clone, Debug)]
struct Senses {
    /// The server's clock, s.
    now: f32,
    play_mode: String,
    joints: [f32; JOINTS],
    /// The head's pitch, degrees upwards.
    head_pitch: f32,
    acceleration: [f32; 3],
    turn_rates: [f32; 3],
    /// Gravity along the torso, smoothed.
    upright: f32,
    /// The ball; `None` until it was seen.
    ball: Option<Ball>,
}

#[derive(Clone, Copy, Debug)]
struct Ball {
    seen_at: f32,
    /// The ball's distance, angle to the left, angle upwards.
    polar: [f32; 3],
    /// The ball over ground: forwards, to the left.
    ground: [f32; 2],
    velocity: [f32; 2],
}

impl Default for Senses {
    fn default() -> Self {
        Self {
            now: 0.0,
            play_mode: String::new(),
            joints: [0.0; JOINTS],
            head_pitch: 0.0,
            acceleration: [0.0, 0.0, UPRIGHT],
            turn_rates: [0.0; 3],
            upright: UPRIGHT,
            ball: None,
        }
    }
}

impl Senses {
    /// Takes over the perceptors of a message. Missing ones, and ones without a number, stay unchanged: a server's
    /// first perceptions have gaps, and `nan` where a body has just been put somewhere.
    fn perceive(&mut self, perceptors: &[Expr<'_>], leg: Leg) -> Result<(), String> {
        let now = find(perceptors, "time").and_then(|time| find(time, "now")?.first()?.number());
        self.now = now.ok_or("no perception: there is no `(time (now …))`")?;
        for perceptor in perceptors {
            if let Some(joint) = perceptor.named("HJ") {
                self.perceive_joint(joint, leg);
            } else if let Some(state) = perceptor.named("GS") {
                if let Some(mode) = find(state, "pm").and_then(|mode| mode.first()?.atom()) {
                    self.play_mode = mode.chars().take(QUOTED_CHARS_MAX).collect();
                }
            } else if let Some(of) = perceptor.named("ACC") {
                take(&mut self.acceleration, find(of, "a"));
                self.upright += (self.acceleration[2] - self.upright) * SMOOTHING;
            } else if let Some(of) = perceptor.named("GYR") {
                take(&mut self.turn_rates, find(of, "rt"));
            } else if let Some(seen) = perceptor.named("See") {
                let mut polar = [f32::NAN; 3];
                take(&mut polar, find(seen, "B").and_then(|ball| find(ball, "pol")));
                if polar.iter().all(|number| number.is_finite()) {
                    self.see_ball(polar);
                }
            }
        }
        Ok(())
    }

    /// Takes over a joint: `(n NAME) (ax ANGLE)`.
    fn perceive_joint(&mut self, joint: &[Expr<'_>], leg: Leg) {
        let name = find(joint, "n").and_then(|name| name.first()?.atom());
        let angle = find(joint, "ax").and_then(|angle| angle.first()?.number());
        let (Some(name), Some(angle)) = (name, angle) else { return };
        if name == "hj2" {
            self.head_pitch = angle;
        }
        let number = || name.strip_prefix(leg.letter())?.strip_prefix("lj")?.parse::<usize>().ok()?.checked_sub(1);
        if let Some(place) = number().and_then(|index| self.joints.get_mut(index)) {
            *place = angle;
        }
    }

    fn see_ball(&mut self, polar: [f32; 3]) {
        let [distance, left, up] = polar;
        let (left, up) = (left.to_radians(), up.to_radians());
        let [x, y, z] = [distance * up.cos() * left.cos(), distance * up.cos() * left.sin(), distance * up.sin()];
        // The angles are the head's: what is ahead of it lies before the feet.
        let (sin, cos) = self.head_pitch.to_radians().sin_cos();
        let ground = [x * cos - z * sin, y];
        let velocity = match self.ball {
            Some(before) if self.now > before.seen_at => {
                let seconds = self.now - before.seen_at;
                [0, 1].map(|axis| (ground[axis] - before.ground[axis]) / seconds)
            }
            _ => [0.0; 2],
        };
        self.ball = Some(Ball { seen_at: self.now, polar, ground, velocity });
    }

    fn observation(&self) -> [f32; 18] {
        let [j1, j2, j3, j4, j5, j6] = self.joints;
        let (polar, velocity, age) = match self.ball {
            Some(ball) => (ball.polar, ball.velocity, (self.now - ball.seen_at).max(0.0)),
            None => ([0.0; 3], [0.0; 2], 0.0),
        };
        let ([distance, left, up], [vx, vy]) = (polar, velocity);
        let ([ax, ay, az], [gx, gy, gz]) = (self.acceleration, self.turn_rates);
        [j1, j2, j3, j4, j5, j6, distance, left, up, vx, vy, age, ax, ay, az, gx, gy, gz]
    }
}

/// Takes over three numbers, if all three are numbers.
fn take(to: &mut [f32; 3], from: Option<&[Expr<'_>]>) {
    if let Some([x, y, z]) = from
        && let (Some(x), Some(y), Some(z)) = (x.number(), y.number(), z.number())
    {
        *to = [x, y, z];
    }
}

/// An agent's connection to a server.
#[derive(Debug)]
struct Server {
    stream: TcpStream,
}

impl Server {
    fn connect(config: &Config) -> Result<Self, String> {
        let address = config.address();
        let stream = TcpStream::connect((config.server_ip.as_str(), config.server_port)).map_err(|error| {
            let kind = error.kind();
            let error = words(&error);
            match kind {
                ErrorKind::PermissionDenied => format!(
                    "connecting to {address} is not allowed ({error}): grant `tcp-connect={address}`, or set `server_ip` \
                     and `server_port` to what is granted"
                ),
                _ => format!(
                    "no simulator answers at {address} ({error}): start `rcssserver3d --agent-port {}` in agent sync \
                     mode, one for each env",
                    config.server_port
                ),
            }
        })?;
        // Every message waits for the one before it: nothing is gained by collecting them. Without this they are only late.
        let _ = stream.set_nodelay(true);
        Ok(Self { stream })
    }

    fn send(&mut self, message: &str) -> Result<(), String> {
        let length = u32::try_from(message.len()).map_err(|_| "a message of 4 GiB".to_owned())?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(message.as_bytes());
        self.stream.write_all(&bytes).map_err(|error| format!("sending failed: {}", words(&error)))
    }

    fn receive(&mut self) -> Result<String, String> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_be_bytes(length);
        let bytes = usize::try_from(length).ok().filter(|bytes| (1..=MESSAGE_BYTES_MAX).contains(bytes));
        let Some(bytes) = bytes else {
            return Err(format!("a message of {length} bytes, where 1 to {MESSAGE_BYTES_MAX} were expected"));
        };
        let mut message = vec![0; bytes];
        self.fill(&mut message)?;
        String::from_utf8(message).map_err(|error| {
            format!("a message that is no text: {}", quoted(&String::from_utf8_lossy(error.as_bytes())))
        })
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.stream.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "the server has closed the connection".to_owned(),
            _ => format!("receiving failed: {}", words(&error)),
        })
    }
}

/// Quotes a stranger's text for a message: in quotes, without control characters, and cut.
fn quoted(text: &str) -> String {
    let mut start: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

rollcage_sdk::export!(ShortKick);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{JoinHandle, spawn};

    use super::*;
    use rollcage_sdk::testing::Native;

    /// A server that answers one message after the other, the last one again and again, with its time in the place of
    /// `NOW`; it returns the messages that it received.
    fn server(answers: &'static [&'static str]) -> (u16, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serve = move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut agent = Server { stream };
            let mut received = Vec::new();
            while let Ok(message) = agent.receive() {
                let answer = answers[received.len().min(answers.len() - 1)];
                received.push(message);
                if answer.is_empty() {
                    break;
                }
                let now = 0.02 * f64::from(u32::try_from(received.len()).expect("a few"));
                if agent.send(&answer.replace("NOW", &format!("{now:.2}"))).is_err() {
                    break;
                }
            }
            received
        };
        (port, spawn(serve))
    }

    fn create(port: u16) -> Result<Native<ShortKick>, String> {
        let config = format!(r#"{{"server_port": {port}, "settle_cycles": 2, "kick_distance": 0.5, "team": "rc"}}"#);
        match Native::<ShortKick>::new(&config) {
            Ok(env) => Ok(env),
            Err(CreateError::Failed(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    const STANDING: &str = "(time (now NOW))(GS (t 0.00) (pm PlayOn))(GYR (n torso) (rt 1.00 2.00 3.00))\
        (ACC (n torso) (a 0.00 0.00 9.81))(HJ (n hj2) (ax -45.00))(HJ (n rlj1) (ax -1.50))(HJ (n rlj3) (ax 30.00))\
        (HJ (n llj3) (ax 99.00))(See (G1L (pol 9.00 1.00 2.00)) (B (pol 0.50 0.00 -20.00)))";
    /// The ball half a metre further, seen at the same angle of the head.
    const KICKED: &str = "(time (now NOW))(HJ (n hj2) (ax -45.00))(See (B (pol 1.70 0.00 -20.00)))";
    const FALLEN_OVER: &str = "(time (now NOW))(ACC (n torso) (a 9.81 0.00 0.00))";

    #[test]
    fn an_episode_begins_by_the_protocol() {
        let (port, server) = server(&[STANDING]);
        let mut env = create(port).expect("a server");
        let view = env.reset(Some(0), None).expect("a reset");
        assert_eq!(view.observation[..JOINTS], [-1.5, 0.0, 30.0, 0.0, 0.0, 0.0]);
        assert_eq!(view.observation[6..12], [0.5, 0.0, -20.0, 0.0, 0.0, 0.0]);
        assert_eq!(view.observation[12..], [0.0, 0.0, 9.81, 1.0, 2.0, 3.0]);
        assert_eq!(view.extra.expect("a play mode")["play_mode"], "PlayOn");
        let step = env.step([0.5, 0.0, -6.0, 0.0, 0.0, 0.0]).expect("a step");
        assert_eq!((step.reward, step.terminated, step.info.ball_moved), (0.0, false, Some(0.0)));
        drop(env);

        let sent = server.join().expect("the server");
        assert_eq!(sent[0], "(scene rsg/agent/nao/nao.rsg)(syn)");
        assert_eq!(sent[1], "(init (unum 1)(teamname rc))(syn)");
        assert!(sent[2].starts_with("(beam -0.2 0.05 0)(rle1 1.3090)(rle2"), "{}", sent[2]);
        assert!(sent[3].starts_with("(rle1 1.3090)") && sent[3].contains("(rle3 -6.1400)"), "{}", sent[3]);
        let still = "(rle1 0.0000)(rle2 0.0000)(rle3 0.0000)(rle4 0.0000)(rle5 0.0000)(rle6 0.0000)(he2 0.0000)(syn)";
        assert_eq!(sent[4], still);
        assert!(sent[5].starts_with("(rle1 0.5000)(rle2 0.0000)(rle3 -6.0000)"), "{}", sent[5]);
    }

    #[test]
    fn a_kick_ends_the_episode_and_pays_its_length() {
        let (port, server) = server(&[STANDING, STANDING, STANDING, STANDING, STANDING, KICKED]);
        let mut env = create(port).expect("a server");
        env.reset(Some(0), None).expect("a reset");
        let step = env.step([0.0; JOINTS]).expect("a step");
        // A ray that looks down by 45 + 20 degrees meets the ground cos 65 of its length ahead.
        let gone = 1.2 * 65_f64.to_radians().cos();
        assert!(step.terminated && (step.reward - gone).abs() < 1e-4, "{}", step.reward);
        assert!((f64::from(step.observation[9]) - gone / 0.02).abs() < 0.1, "{:?}", step.observation);
        assert_eq!(step.info.fallen, Some(0));
        drop(env);
        server.join().expect("the server");
    }

    #[test]
    fn a_fall_ends_the_episode() {
        let (port, server) = server(&[STANDING, STANDING, STANDING, STANDING, STANDING, FALLEN_OVER]);
        let mut env = create(port).expect("a server");
        env.reset(Some(0), None).expect("a reset");
        let ended = (0..20).find_map(|cycle| {
            let step = env.step([0.0; JOINTS]).expect("a step");
            step.terminated.then_some((cycle, step.reward, step.info.fallen))
        });
        assert_eq!(ended, Some((6, FALL_REWARD, Some(1))), "after a few cycles of lying, not of shaking");
        drop(env);
        server.join().expect("the server");
    }

    #[test]
    fn what_goes_wrong_is_told() {
        for (answers, words) in [
            (&["hello"][..], "no perception: there is no `(time (now …))`, in \"hello\""),
            (&["(time (now 1)"], "a parenthesis that nothing closes, in \"(time (now 1)\""),
            (&["(time (now nan))"], "no perception"),
            (&["(time (now NOW))", ""], "the server has closed the connection"),
        ] {
            let (port, server) = server(answers);
            let message = create(port).err().expect("refused");
            let start = format!("127.0.0.1:{port} does not take the robot in: ");
            assert!(message.starts_with(&start) && message.contains(words), "{message}");
            server.join().expect("the server");
        }
        let (port, blind) = server(&["(time (now NOW))(GS (pm GameOver))"]);
        let mut env = create(port).expect("a server");
        let refused = env.reset(Some(0), None).err();
        let message = r#"the ball is not in sight from the place to begin, in play mode "GameOver""#;
        assert_eq!(refused, Some(EnvError::failed(message)));
        drop(env);
        blind.join().expect("the server");
    }

    #[test]
    fn lengths_are_bounded() {
        for length in [0, u32::MAX, 64 * 1024 + 1] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let server = spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                stream.write_all(&length.to_be_bytes()).expect("four bytes");
                // Until the client is gone.
                while stream.read(&mut [0; 100]).is_ok_and(|count| count > 0) {}
            });
            let message = create(port).err().expect("refused");
            assert!(
                message.ends_with(&format!("a message of {length} bytes, where 1 to 65536 were expected")),
                "{message}"
            );
            server.join().expect("the server");
        }
    }

    #[test]
    fn names_are_no_syntax() {
        for (key, value) in [("team", "a)(b"), ("team", "a b"), ("scene", "a b"), ("scene", "(x)")] {
            let config = format!(r#"{{"server_port": 1, "{key}": "{value}"}}"#);
            let Err(CreateError::Config(errors)) = Native::<ShortKick>::new(&config) else {
                panic!("{value}: accepted")
            };
            assert_eq!(errors[0].path, key);
        }
    }

    #[test]
    fn nobody_there_is_told_by_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let message = create(port).err().expect("nobody is there");
        assert!(message.starts_with(&format!("no simulator answers at 127.0.0.1:{port} (")), "{message}");
    }

    #[test]
    fn the_port_has_no_default() {
        assert_eq!(Native::<ShortKick>::config_schema()["required"], rollcage_sdk::serde_json::json!(["server_port"]));
    }
}
