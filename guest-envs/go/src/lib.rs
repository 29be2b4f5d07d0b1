//! Go against GNU Go: a move of the agent's, a move of the program's, until both pass.
//!
//! The opponent is the real program, a process of its own that the env talks to over TCP, in the Go Text Protocol (GTP,
//! version 2). It listens so, for one client, and ends when that one leaves:
//!
//! ```sh
//! gnugo --mode gtp --gtp-listen 127.0.0.1:6200 --level 1
//! ```
//!
//! | action          |                                              |   | observation (int8, a row for each line)  |
//! |-----------------|----------------------------------------------|---|------------------------------------------|
//! | 0 … size² - 1   | a stone at `row * size + column`, from the top left |   | 1 a stone of the agent's          |
//! | size²           | pass                                         |   | -1 one of the opponent's, 0 none         |
//!
//! The action mask has the moves that are legal by GNU Go's rules (simple ko, no suicide). An episode ends when both
//! pass one after the other, or GNU Go resigns, which it does on a board of 19 lines only. The reward comes with the
//! last move: 1 for a win, -1 for a loss, 0 for a draw, by GNU Go's own count of the score; a resignation is a win. An
//! episode that the time limit breaks off has no reward.
//!
//! The same seed and actions give the same game, whatever was played before.

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rollcage_sdk::error::words;
use rollcage_sdk::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// The names of columns, from the left: there is no I.
const COLUMNS: &[u8] = b"ABCDEFGHJKLMNOPQRST";
/// The bound of GNU Go's seeds, which are below it.
const SEEDS: i64 = 1 << 31;

/// Bytes of one reply, and so of each of its lines. The longest reply lists the legal moves of the largest board, 1.5
/// kB; a reply beyond the limit is not GTP.
const REPLY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one read from the connection.
const READ_BYTES: usize = 4 * 1024;
/// Characters of a reply that a message quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// Pixels between two lines of the picture.
const SPACING: u32 = 24;
const WOOD: [u8; 3] = [220, 179, 92];
const BLACK: [u8; 3] = [16, 16, 16];
const WHITE: [u8; 3] = [245, 245, 245];

/// What can be configured.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where GNU Go listens: an address or a name.
    #[serde(default = "Config::default_host")]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The port it listens on: another one for every env.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Lines of the board in each direction.
    #[serde(default = "Config::default_board_size")]
    #[schemars(range(min = 5, max = 19))]
    pub board_size: u8,
    /// Points that white has in advance; GNU Go's own are 5.5. A whole number makes draws possible.
    #[serde(default = "Config::default_komi")]
    #[schemars(range(min = -361.0, max = 361.0))]
    pub komi: f64,
    /// The agent's colour; black has the first move.
    #[serde(default)]
    pub color: Color,
}

impl Config {
    fn default_host() -> String {
        "127.0.0.1".to_owned()
    }

    fn default_board_size() -> u8 {
        9
    }

    fn default_komi() -> f64 {
        5.5
    }

    /// Host and port as one text.
    fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

rollcage_sdk::choices! {
    /// A player's colour, by its name in GTP.
    #[derive(Default)]
    pub enum Color {
        #[default]
        Black = "black",
        White = "white",
    }
}

impl Color {
    fn other(self) -> Self {
        match self {
            Self::Black => Self::White,
            Self::White => Self::Black,
        }
    }
}

rollcage_sdk::info! {
    /// What a step tells beside the observation. The last step of a game also has `result`, as `B+3.5`, `W+Resign` or
    /// `0`.
    pub struct Reply in ReplySpace {
        /// The opponent's move, numbered as the agent's are; absent where it made none.
        opponent_move: Discrete,
        /// Points by which the agent won (or lost, below 0); only where the game was played to its end.
        score: BoxSpace<f64>,
    }
}

/// The env.
#[derive(Debug)]
pub struct Go {
    config: Config,
    gtp: Gtp,
    /// The board as observed: row by row from the top.
    board: Vec<i8>,
    /// The action mask.
    legal: Vec<bool>,
    /// Whether the last move was a pass.
    passed: bool,
    /// The last move, numbered as actions are.
    last_move: Option<usize>,
}

impl Environment for Go {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Vec<i8>>;
    type ActionSpace = Discrete;
    type InfoSpace = ReplySpace;

    const NAME: &'static str = "go";
    const SUMMARY: &'static str = "Play Go against GNU Go, which is reached over TCP";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::Ansi, RenderMode::RgbArray];
    const WANTS: &'static [Want] = &[
        Want {
            kind: WantKind::TcpConnect,
            example: "127.0.0.1:{gtp}",
            reason: "the opponent is GNU Go, which is reached there",
            required: true,
        },
        Want {
            kind: WantKind::Lease,
            example: "gtp:6200-6299",
            reason: "every env needs a GNU Go with a port of its own, unless it is given one by `port`",
            required: false,
        },
        Want {
            kind: WantKind::Service,
            example: "gnugo --mode gtp --gtp-listen 127.0.0.1:{gtp}",
            reason: "GNU Go serves one env and ends with it, so somebody must start one for each",
            required: false,
        },
    ];

    fn create(config: Config) -> Result<Self, CreateError> {
        let gtp = Gtp::connect(&config).map_err(CreateError::failed)?;
        Ok(Self { config, gtp, board: Vec::new(), legal: Vec::new(), passed: false, last_move: None })
    }

    fn spec(&self) -> Spec<Self> {
        let side = u32::from(self.config.board_size);
        let moves = side * side + 1;
        let space = ReplySpace {
            opponent_move: Discrete::new(i64::from(moves)),
            score: BoxSpace::all(f64::NEG_INFINITY, f64::INFINITY),
        };
        // GNU Go knows no superko, so a game may go on for ever. One that is played in earnest has fewer moves than the
        // board has points.
        Spec::with_info(BoxSpace::shaped(&[side, side], -1, 1), Discrete::new(i64::from(moves)), space)
            .masked()
            .max_episode_steps(side * side)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        let seed = rng.integers(0, SEEDS);
        self.ask(&format!("boardsize {}", self.config.board_size))?;
        self.ask("clear_board")?;
        self.ask(&format!("komi {}", self.config.komi))?;
        self.ask(&format!("set_random_seed {seed}"))?;
        (self.passed, self.last_move) = (false, None);

        let mut reply = Reply::default();
        if self.config.color == Color::White {
            match self.opponents_move()? {
                Answer::Move(number) => {
                    self.note(number);
                    reply.opponent_move = Some(action_of(number));
                }
                Answer::Resigned => {
                    return Err(EnvError::failed("GNU Go resigned before the first move of the agent's"));
                }
            }
        }
        self.look()?;
        Ok(View::new(self.board.clone()).info(reply))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let number = usize::try_from(action).expect("an action was checked to be one of the board's");
        let color = self.config.color;
        self.ask(&format!("play {} {}", color.as_str(), vertex(self.size(), number)))?;
        let mut over = self.note(number);

        let mut reply = Reply::default();
        let mut resigned = false;
        if !over {
            match self.opponents_move()? {
                Answer::Move(number) => {
                    over = self.note(number);
                    reply.opponent_move = Some(action_of(number));
                }
                Answer::Resigned => resigned = true,
            }
        }
        self.look()?;

        let mut step = Step::new(self.board.clone(), 0.0).terminated(over || resigned);
        if resigned {
            step.reward = 1.0;
            let winner = if color == Color::Black { "B" } else { "W" };
            step = step.extra("result", format!("{winner}+Resign"));
        } else if over {
            let result = self.ask("final_score")?;
            let for_black = score(&result).ok_or_else(|| {
                EnvError::failed(format!("GTP `final_score`: expected a score, got {}", quoted(&result)))
            })?;
            let score = if color == Color::Black { for_black } else { -for_black };
            step.reward = if score == 0.0 { 0.0 } else { score.signum() };
            reply.score = Some(score);
            step = step.extra("result", result);
        }
        Ok(step.info(reply))
    }

    fn action_mask(&self) -> Vec<bool> {
        self.legal.clone()
    }

    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(match mode {
            RenderMode::Ansi => Frame::Text(self.text()),
            RenderMode::RgbArray => self.picture(),
        })
    }

    fn close(&mut self) {
        // GNU Go answers, and ends when the connection does. Who closes first keeps the port for a minute: that must not be
        // GNU Go, or its successor could not listen there. Nobody is left to tell if either fails.
        let _ = self.gtp.ask("quit");
        let _ = self.gtp.stream.shutdown(Shutdown::Both);
    }
}

/// An answer of GNU Go in its turn.
enum Answer {
    /// A move, numbered as actions are.
    Move(usize),
    Resigned,
}

impl Go {
    fn size(&self) -> usize {
        usize::from(self.config.board_size)
    }

    /// The number of a pass.
    fn pass(&self) -> usize {
        self.size() * self.size()
    }

    fn ask(&mut self, command: &str) -> Result<String, EnvError> {
        self.gtp.ask(command).map_err(EnvError::failed)
    }

    /// Notes a move; true if it is the second pass in turn.
    fn note(&mut self, number: usize) -> bool {
        let passed = number == self.pass();
        let over = passed && self.passed;
        (self.passed, self.last_move) = (passed, Some(number));
        over
    }

    fn opponents_move(&mut self) -> Result<Answer, EnvError> {
        let command = format!("genmove {}", self.config.color.other().as_str());
        let reply = self.ask(&command)?;
        if reply.eq_ignore_ascii_case("resign") {
            return Ok(Answer::Resigned);
        }
        let number = number_of(self.size(), &reply)
            .ok_or_else(|| EnvError::failed(format!("GTP `{command}`: expected a move, got {}", quoted(&reply))))?;
        Ok(Answer::Move(number))
    }

    /// Asks for the stones on the board, and for what the agent may do next.
    fn look(&mut self) -> Result<(), EnvError> {
        let agent = self.config.color;
        let (mine, theirs) = (self.vertices("list_stones", agent)?, self.vertices("list_stones", agent.other())?);
        let legal = self.vertices("all_legal", agent)?;
        self.board = vec![0; self.pass()];
        mine.into_iter().for_each(|number| self.board[number] = 1);
        theirs.into_iter().for_each(|number| self.board[number] = -1);
        self.legal = vec![false; self.pass() + 1];
        legal.into_iter().for_each(|number| self.legal[number] = true);
        // Passing is always allowed, and never listed.
        let pass = self.pass();
        self.legal[pass] = true;
        Ok(())
    }

    /// The points of the board that a command lists for one colour.
    fn vertices(&mut self, command: &str, color: Color) -> Result<Vec<usize>, EnvError> {
        let command = format!("{command} {}", color.as_str());
        let reply = self.ask(&command)?;
        let (size, pass) = (self.size(), self.pass());
        let point = |name| number_of(size, name).filter(|&number| number != pass).ok_or(name);
        reply.split_ascii_whitespace().map(point).collect::<Result<_, _>>().map_err(|name| {
            EnvError::failed(format!("GTP `{command}`: expected points of the board, got {}", quoted(name)))
        })
    }

    /// The board with its coordinates: X is black, O is white, the last move in parentheses.
    fn text(&self) -> String {
        let size = self.size();
        let (agent, opponent) = if self.config.color == Color::Black { ('X', 'O') } else { ('O', 'X') };
        let letters: String = COLUMNS[..size].iter().flat_map(|&letter| [' ', char::from(letter)]).collect();
        let mut text = format!("  {letters}\n");
        for (row, stones) in self.board.chunks(size).enumerate() {
            let name = size - row;
            text.push_str(&format!("{name:2}"));
            for (column, stone) in stones.iter().enumerate() {
                // A parenthesis stands in the place of the space on either side of the stone.
                let last = self.last_move.filter(|&last| last != self.pass()).map(|last| (last / size, last % size));
                text.push(if last == Some((row, column)) {
                    '('
                } else if column > 0 && last == Some((row, column - 1)) {
                    ')'
                } else {
                    ' '
                });
                text.push(match stone {
                    1 => agent,
                    -1 => opponent,
                    _ => '.',
                });
            }
            let at_the_end = self.last_move == Some(row * size + size - 1);
            text.push_str(&format!("{}{name}\n", if at_the_end { ')' } else { ' ' }));
        }
        text.push_str(&format!("  {letters}\n"));
        if self.passed {
            text.push_str("pass\n");
        }
        text
    }

    fn picture(&self) -> Frame {
        let side = SPACING * u32::from(self.config.board_size);
        let mut canvas = Canvas::new(side, side, WOOD);
        let at = |line: usize| f64::from(SPACING) * (f64::from(u32::try_from(line).expect("at most 19")) + 0.5);
        let (first, last) = (at(0), at(self.size() - 1));
        for line in (0..self.size()).map(at) {
            let (before, after) = (line - 0.5, line + 0.5);
            canvas.polygon(&[(first, before), (last, before), (last, after), (first, after)], BLACK);
            canvas.polygon(&[(before, first), (after, first), (after, last), (before, last)], BLACK);
        }
        let agent_is_black = self.config.color == Color::Black;
        for (number, &stone) in self.board.iter().enumerate().filter(|(_, stone)| **stone != 0) {
            let color = if (stone == 1) == agent_is_black { BLACK } else { WHITE };
            let (row, column) = (number / self.size(), number % self.size());
            canvas.disc((at(column), at(row)), f64::from(SPACING) * 0.46, color);
            if self.last_move == Some(number) {
                let mark = if color == BLACK { WHITE } else { BLACK };
                canvas.disc((at(column), at(row)), f64::from(SPACING) * 0.12, mark);
            }
        }
        canvas.into_frame()
    }
}

/// The action of a move's number.
fn action_of(number: usize) -> i64 {
    i64::try_from(number).expect("at most 361")
}

/// The name of a move: a letter for the column, the row counted from the bottom.
fn vertex(size: usize, number: usize) -> String {
    if number == size * size {
        return "pass".to_owned();
    }
    format!("{}{}", char::from(COLUMNS[number % size]), size - number / size)
}

/// The number of the move with this name, if there is one on a board of this size.
fn number_of(size: usize, name: &str) -> Option<usize> {
    if name.eq_ignore_ascii_case("pass") {
        return Some(size * size);
    }
    let (letter, row) = name.split_at_checked(1)?;
    let letter = letter.bytes().next()?.to_ascii_uppercase();
    let column = COLUMNS[..size].iter().position(|&column| column == letter)?;
    // Digits alone: a number may begin with a sign.
    let row: usize = row.bytes().all(|byte| byte.is_ascii_digit()).then(|| row.parse().ok()).flatten()?;
    (1..=size).contains(&row).then(|| (size - row) * size + column)
}

/// The score in points for black: `B+3.5`, `W+12` or `0`.
fn score(result: &str) -> Option<f64> {
    if result == "0" {
        return Some(0.0);
    }
    let (winner, points) = result.split_once('+')?;
    let points: f64 = points.parse().ok()?;
    match winner {
        _ if !points.is_finite() || points < 0.0 => None,
        "B" => Some(points),
        "W" => Some(-points),
        _ => None,
    }
}

/// A connection to a GTP server.
#[derive(Debug)]
struct Gtp {
    stream: TcpStream,
    /// The bytes that were read and belong to no reply yet.
    received: Vec<u8>,
    /// The number of the last command: a reply carries the number of its command.
    id: u32,
}

impl Gtp {
    fn connect(config: &Config) -> Result<Self, String> {
        let address = config.address();
        let stream = TcpStream::connect((config.host.as_str(), config.port)).map_err(|error| {
            let kind = error.kind();
            let error = words(&error);
            match kind {
                ErrorKind::PermissionDenied => format!(
                    "connecting to {address} is not allowed ({error}): grant `tcp-connect={address}`, or set `host` and \
                     `port` to what is granted"
                ),
                _ => format!(
                    "GNU Go does not answer at {address} ({error}): start `gnugo --mode gtp --gtp-listen {address}` for \
                     this env alone, anew for each time that it connects"
                ),
            }
        })?;
        let mut gtp = Self { stream, received: Vec::new(), id: 0 };
        let strange = |what| format!("what answers at {address} is no GNU Go: {what}");
        match gtp.ask("protocol_version").map_err(strange)?.as_str() {
            "2" => {}
            other => return Err(strange(format!("its version of GTP is {}, not 2", quoted(other)))),
        }
        match gtp.ask("known_command all_legal").map_err(strange)?.as_str() {
            "true" => Ok(gtp),
            _ => Err(strange("it has no command `all_legal`".to_owned())),
        }
    }

    /// Sends a command and waits for its result.
    fn ask(&mut self, command: &str) -> Result<String, String> {
        self.id = self.id % 1_000_000 + 1;
        let failed = |what: &dyn Display| format!("GTP `{command}`: {what}");
        self.stream.write_all(format!("{} {command}\n", self.id).as_bytes()).map_err(|error| failed(&words(&error)))?;
        let reply = self.receive().map_err(|what| failed(&what))?;
        match parse(&reply) {
            Some((id, Ok(result))) if id == self.id => Ok(result.to_owned()),
            Some((id, Err(error))) if id == self.id => Err(failed(&format!("refused: {}", quoted(error)))),
            _ => Err(failed(&format!("expected the reply to command {}, got {}", self.id, quoted(&reply)))),
        }
    }

    /// The next reply, without the empty line that ends it.
    fn receive(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.received.split_off(end + 2);
                let reply = std::mem::replace(&mut self.received, rest);
                return Ok(String::from_utf8_lossy(&reply[..end]).into_owned());
            }
            if self.received.len() >= REPLY_BYTES_MAX {
                return Err(format!("a reply of more than {REPLY_BYTES_MAX} bytes"));
            }
            if !self.received.is_empty() {
                // GNU Go writes a reply in pieces, and TCP holds the later ones back until the first is acknowledged, which
                // Linux puts off by 40 ms unless there is something to send. An empty line is, and GTP ignores it. If it
                // cannot be sent, reading says why.
                let _ = self.stream.write_all(b"\n");
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("the connection was closed".to_owned()),
                Ok(count) => self.received.extend(bytes[..count].iter().filter(|&&byte| byte != b'\r')),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(words(&error)),
            }
        }
    }
}

/// Takes a reply apart: `=ID RESULT` or `?ID MESSAGE`.
fn parse(reply: &str) -> Option<(u32, Result<&str, &str>)> {
    let (status, rest) = reply.split_at_checked(1)?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (id, text) = rest.split_at(end);
    let text = text.trim();
    match status {
        "=" => Some((id.parse().ok()?, Ok(text))),
        "?" => Some((id.parse().ok()?, Err(text))),
        _ => None,
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

rollcage_sdk::export!(Go);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::thread::{JoinHandle, sleep, spawn};
    use std::time::Duration;

    use super::*;
    use rollcage_sdk::testing::Native;

    const GNU_GO: &str = "/usr/games/gnugo";

    /// A GNU Go of the test's own, ended with it.
    struct Opponent {
        process: Child,
        port: u16,
    }

    impl Opponent {
        /// Starts GNU Go; returns `None` and prints a line where it is not installed.
        fn start() -> Option<Self> {
            if !Path::new(GNU_GO).exists() {
                eprintln!(
                    "SKIPPED: {GNU_GO} is not installed (apt-get install gnugo), so nothing was played against it"
                );
                return None;
            }
            let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
            Some(Self::start_at(port))
        }

        fn start_at(port: u16) -> Self {
            let listen = format!("127.0.0.1:{port}");
            let mut command = Command::new(GNU_GO);
            command.args(["--mode", "gtp", "--level", "1", "--gtp-listen", &listen]).stdin(Stdio::null());
            let opponent = Self { process: command.spawn().expect("GNU Go"), port };
            // Not by connecting, which would be the one connection that it takes.
            let row = format!(": 0100007F:{port:04X} 00000000:0000 0A ");
            for _ in 0..500 {
                if std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets").contains(&row) {
                    return opponent;
                }
                sleep(Duration::from_millis(10));
            }
            panic!("GNU Go does not listen on {port}");
        }

        fn config(&self, more: &str) -> String {
            format!(r#"{{"port": {}{more}}}"#, self.port)
        }

        /// The exit status of GNU Go, within two seconds.
        fn end(mut self) -> Option<i32> {
            for _ in 0..200 {
                if let Some(status) = self.process.try_wait().expect("a status") {
                    return status.code();
                }
                sleep(Duration::from_millis(10));
            }
            panic!("GNU Go goes on");
        }
    }

    impl Drop for Opponent {
        fn drop(&mut self) {
            // It may have ended by itself.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    /// A server that answers each command by a script, where `genmove` and the like have a line, and else as a GTP
    /// server that has nothing to say; it returns the commands.
    fn scripted(script: &'static [(&'static str, &'static str)]) -> (u16, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serve = move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = Vec::new();
            for line in BufReader::new(stream.try_clone().expect("a second handle")).lines() {
                let line = line.expect("a line");
                let Some((id, command)) = line.split_once(' ') else { continue };
                asked.push(command.to_owned());
                let name = command.split(' ').next().expect("at least one");
                let reply = match script.iter().find(|(of, _)| *of == name || *of == command) {
                    Some((_, reply)) => reply.replace("ID", id),
                    None => match name {
                        "protocol_version" => format!("={id} 2\n\n"),
                        "known_command" => format!("={id} true\n\n"),
                        _ => format!("={id} \n\n"),
                    },
                };
                if reply == "close" || stream.write_all(reply.as_bytes()).is_err() {
                    break;
                }
            }
            asked
        };
        (port, spawn(serve))
    }

    fn create(port: u16) -> Result<Native<Go>, String> {
        match Native::<Go>::new(&format!(r#"{{"port": {port}, "board_size": 5}}"#)) {
            Ok(env) => Ok(env),
            Err(CreateError::Failed(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn failure<T>(result: Result<T, EnvError>) -> String {
        match result {
            Err(EnvError::Failed(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("no failure"),
        }
    }

    #[test]
    fn columns_have_no_i_and_rows_count_from_the_bottom() {
        for (size, number, name) in [
            (9, 0, "A9"),
            (9, 7, "H9"),
            (9, 8, "J9"),
            (9, 80, "J1"),
            (9, 72, "A1"),
            (9, 40, "E5"),
            (9, 81, "pass"),
            (19, 18, "T19"),
            (19, 360, "T1"),
            (5, 25, "pass"),
        ] {
            assert_eq!(vertex(size, number), name);
            assert_eq!(number_of(size, name), Some(number), "{name}");
        }
        for size in 5..=19 {
            assert!((0..=size * size).all(|number| number_of(size, &vertex(size, number)) == Some(number)));
        }
        assert_eq!((number_of(9, "PASS"), number_of(9, "e5")), (Some(81), Some(40)));
        for name in ["", "A", "I5", "K5", "A0", "A10", "5A", "A+5", "A-1", "A 5", "é5", "Aé", "A99999999999999999999"]
        {
            assert_eq!(number_of(9, name), None, "{name:?}");
        }
    }

    #[test]
    fn scores_are_read_for_black() {
        for (result, points) in [("B+15.5", 15.5), ("W+3", -3.0), ("0", 0.0)] {
            assert_eq!(score(result), Some(points));
        }
        for result in ["", "B", "B+", "X+1", "B+Resign", "B+-1", "W+inf", "B+nan", "W+12.2 (upper bound: 12.2)"] {
            assert_eq!(score(result), None, "{result:?}");
        }
    }

    #[test]
    fn replies_carry_the_number_of_their_command() {
        assert_eq!(parse("=12 E5"), Some((12, Ok("E5"))));
        assert_eq!(parse("=1 "), Some((1, Ok(""))));
        assert_eq!(parse("=7"), Some((7, Ok(""))));
        assert_eq!(parse("?3 illegal move"), Some((3, Err("illegal move"))));
        for text in ["", "= E5", "E5", "é", "=x 1", "HTTP/1.1 400 Bad Request", "=99999999999 1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_port_has_no_default() {
        let schema = Native::<Go>::config_schema();
        assert_eq!(schema["required"], rollcage_sdk::serde_json::json!(["port"]));
        let port = &schema["properties"]["port"];
        assert_eq!((port["minimum"].as_u64(), port["maximum"].as_u64()), (Some(1), Some(65535)));
        assert_eq!(schema["properties"]["color"]["enum"], rollcage_sdk::serde_json::json!(["black", "white"]));
    }

    #[test]
    fn a_refusal_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let message = create(port).err().expect("nobody is there");
        assert!(message.starts_with(&format!("GNU Go does not answer at 127.0.0.1:{port} (")), "{message}");
        assert!(message.contains(&format!("gnugo --mode gtp --gtp-listen 127.0.0.1:{port}")), "{message}");
    }

    #[test]
    fn what_is_no_gnu_go_is_told() {
        for (script, words) in [
            (&[("protocol_version", "=ID 1\n\n")][..], r#"its version of GTP is "1", not 2"#),
            (
                &[("protocol_version", "SSH-2.0-OpenSSH\r\n\n")],
                r#"expected the reply to command 1, got "SSH-2.0-OpenSSH""#,
            ),
            (&[("protocol_version", "=99 2\n\n")], r#"expected the reply to command 1, got "=99 2""#),
            (&[("protocol_version", "close")], "the connection was closed"),
            (&[("known_command", "=ID false\n\n")], "it has no command `all_legal`"),
        ] {
            let (port, server) = scripted(script);
            let message = create(port).err().expect("no GNU Go");
            let start = format!("what answers at 127.0.0.1:{port} is no GNU Go: ");
            assert!(message.starts_with(&start) && message.contains(words), "{message}");
            server.join().expect("the server");
        }
    }

    #[test]
    fn a_reply_without_end_is_not_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            while stream.write_all(&[b'x'; 1000]).is_ok() {}
        });
        let message = create(port).err().expect("no GTP");
        assert!(message.ends_with("a reply of more than 16384 bytes"), "{message}");
        server.join().expect("the server");
    }

    #[test]
    fn errors_name_the_command_and_the_reply() {
        for (script, words) in [
            (&[("play", "?ID illegal move\n\n")][..], r#"GTP `play black pass`: refused: "illegal move""#),
            (&[("genmove", "=ID X99\n\n")], r#"GTP `genmove white`: expected a move, got "X99""#),
            (&[("genmove", "close")], "GTP `genmove white`: the connection was closed"),
            (
                &[("list_stones white", "=ID B2 pass\n\n")],
                r#"GTP `list_stones white`: expected points of the board, got "pass""#,
            ),
        ] {
            let (port, server) = scripted(script);
            let mut env = create(port).expect("a server");
            let result = env.reset(Some(0), None).and_then(|_| env.step(25));
            assert_eq!(failure(result), words);
            drop(env);
            server.join().expect("the server");
        }
    }

    #[test]
    fn a_resignation_is_a_win() {
        let (port, server) = scripted(&[("genmove", "=ID resign\n\n"), ("all_legal", "=ID C3\n\n")]);
        let mut env = create(port).expect("a server");
        env.reset(Some(0), None).expect("a reset");
        let masked = env.step(0).err();
        assert_eq!(masked, Some(EnvError::invalid_action("the action mask does not allow it")));
        let step = env.step(12).expect("a step");
        assert_eq!((step.reward, step.terminated, step.info.opponent_move, step.info.score), (1.0, true, None, None));
        assert_eq!(step.extra.expect("a result")["result"], "B+Resign");
        drop(env);
        let asked = server.join().expect("the server");
        assert!(!asked.iter().any(|command| command == "final_score"));
        assert_eq!(asked[2..4], ["boardsize 5", "clear_board"]);
    }

    #[test]
    fn two_passes_end_the_game() {
        let (port, server) = scripted(&[("genmove", "=ID PASS\n\n"), ("final_score", "=ID W+5.5\n\n")]);
        let mut env = create(port).expect("a server");
        env.reset(Some(0), None).expect("a reset");
        let step = env.step(25).expect("a step");
        assert_eq!((step.reward, step.terminated), (-1.0, true));
        assert_eq!((step.info.opponent_move, step.info.score), (Some(25), Some(-5.5)));
        assert_eq!(step.extra.expect("a result")["result"], "W+5.5");
        assert_eq!(env.step(25).map(|step| step.reward), Err(EnvError::NeedsReset));
        drop(env);
        server.join().expect("the server");
    }

    /// Plays legal moves in turn and passes when GNU Go has passed; returns everything that was observed.
    fn play(env: &mut Native<Go>, seed: u64, steps: usize) -> Vec<(Vec<i8>, Option<i64>, f64)> {
        let view = env.reset(Some(seed), None).expect("a reset");
        let mut seen = vec![(view.observation, view.info.opponent_move, 0.0)];
        for number in 0..steps {
            let mask = env.action_mask();
            let pass = mask.len() - 1;
            let legal: Vec<usize> = (0..pass).filter(|&choice| mask[choice]).collect();
            let passed = seen.last().is_some_and(|(_, theirs, _)| *theirs == Some(action_of(pass)));
            let choice = if passed || legal.is_empty() { pass } else { legal[(number * 7 + 3) % legal.len()] };
            let step = env.step(action_of(choice)).expect("a step");
            seen.push((step.observation, step.info.opponent_move, step.reward));
            if step.terminated {
                assert_eq!(step.info.score.map(f64::signum), Some(step.reward));
                break;
            }
            assert_eq!(step.reward, 0.0);
        }
        seen
    }

    #[test]
    fn gnu_go_plays_a_game_to_its_end() {
        let Some(opponent) = Opponent::start() else { return };
        let mut env = Native::<Go>::new(&opponent.config("")).expect("GNU Go");
        let spec = env.spec();
        assert_eq!((spec.max_episode_steps, spec.action_masked), (Some(81), true));

        let first = env.reset(Some(7), None).expect("a reset");
        assert_eq!((first.observation, first.info.opponent_move), (vec![0; 81], None));
        assert_eq!(env.action_mask(), [true; 82]);
        let step = env.step(20).expect("a step");
        let theirs = step.info.opponent_move.and_then(|number| usize::try_from(number).ok()).expect("a move");
        let mut board = vec![0; 81];
        (board[20], board[theirs]) = (1, -1);
        assert_eq!(step.observation, board);
        assert!(!env.action_mask()[20] && !env.action_mask()[theirs]);
        assert_eq!(env.step(20).err(), Some(EnvError::invalid_action("the action mask does not allow it")));
        let Ok(Frame::Text(text)) = env.render(RenderMode::Ansi) else { panic!("no text") };
        assert!(text.starts_with("   A B C D E F G H J\n 9 . . . . . . . . . 9\n") && text.contains('('), "{text}");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height, image.pixels.len()), (216, 216, 216 * 216 * 3));

        let seen = play(&mut env, 7, 200);
        let (_, _, reward) = seen.last().expect("steps");
        assert_eq!(*reward, -1.0, "who plays like that loses");
        drop(env);
        assert_eq!(opponent.end(), Some(0), "GNU Go ends when its client leaves");
    }

    #[test]
    fn close_lets_gnu_go_end_and_another_listen() {
        let Some(opponent) = Opponent::start() else { return };
        let config = rollcage_sdk::serde_json::from_str(&opponent.config("")).expect("a config");
        let mut env = Go::create(config).expect("GNU Go");
        env.close();
        let port = opponent.port;
        assert_eq!(opponent.end(), Some(0), "while the env is still there");
        drop(Opponent::start_at(port));
    }

    #[test]
    fn the_same_seed_gives_the_same_game() {
        let Some(first) = Opponent::start() else { return };
        let Some(second) = Opponent::start() else { return };
        let white = r#", "color": "white", "komi": 0.5"#;
        let mut one = Native::<Go>::new(&first.config(white)).expect("GNU Go");
        let mut other = Native::<Go>::new(&second.config(white)).expect("GNU Go");
        let game = play(&mut one, 3, 12);
        assert_eq!(game[0].0.iter().filter(|&&stone| stone == -1).count(), 1, "black moves first");
        play(&mut other, 4, 5);
        assert_eq!(play(&mut other, 3, 12), game, "after another game, in another process");
        assert!((4..10).any(|seed| play(&mut one, seed, 12) != game), "another seed, another game");
    }
}
