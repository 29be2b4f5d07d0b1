//! Goal: use every part of the standard library's network, as a program does that was not written for rollcage.
//! Method: `call` does one thing with sockets that are kept between calls, and returns how it went.
//!
//! | method     | arguments                | result                                                              |
//! |------------|--------------------------|---------------------------------------------------------------------|
//! | `connect`  | {"to"}, {"ms"}: optional | outcome: [local, peer]; the connection is kept, as the newest       |
//! | `say`      | {"text"}                 | outcome: what came back, as many bytes as were sent                 |
//! | `end`      |                          | outcome: ends the sending, and reads to the end                     |
//! | `peek`     | {"ms"}                   | outcome: one read with a timeout                                    |
//! | `poll`     |                          | outcome: one read that does not wait                                |
//! | `hang-up`  |                          | the number of connections that were dropped                         |
//! | `many`     | {"to", "count"}          | {"open": n, "error": the first refusal}; all are kept               |
//! | `listen`   | {"at"}                   | outcome: local; the listener is kept                                |
//! | `accept`   |                          | outcome: peer; what it says is sent back until it ends              |
//! | `bind`     | {"at"}                   | outcome: local; a UDP socket, which is kept                         |
//! | `datagram` | {"to", "text"}           | outcome: what came back, and from whom                              |
//! | `flood`    | {"to"}                   | never: sends to whoever reads or does not                           |
//! | `gape`     | {"to"}                   | never, from a silent peer: reads                                    |
//!
//! An outcome is {"ok": value} or {"error": Rust's `ErrorKind`, "message": text}.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};

struct Talker {
    connections: Vec<TcpStream>,
    listener: Option<TcpListener>,
    datagrams: Option<UdpSocket>,
}

impl Environment for Talker {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "talker";
    const SUMMARY: &'static str = "Talks to whom it is told to";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { connections: Vec::new(), listener: None, datagrams: None })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Discrete::new(1), Discrete::new(1))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(0))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(0, 0.0))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        let text = |key: &str| {
            let missing = || EnvError::unsupported(format!("{method} wants a text `{key}`"));
            arguments.get(key).and_then(Value::as_str).ok_or_else(missing)
        };
        let number = |key: &str| arguments.get(key).and_then(Value::as_u64);
        let ms = number("ms").map(Duration::from_millis);
        Ok(match method {
            "connect" => outcome(self.connect(text("to")?, ms)),
            "say" => outcome(self.say(text("text")?)),
            "end" => outcome(self.end()),
            "peek" => outcome(self.newest().and_then(|stream| {
                stream.set_read_timeout(ms)?;
                read(stream)
            })),
            "poll" => outcome(self.newest().and_then(|stream| {
                stream.set_nonblocking(true)?;
                let got = read(stream);
                stream.set_nonblocking(false)?;
                got
            })),
            "hang-up" => json!(std::mem::take(&mut self.connections).len()),
            "many" => self.many(text("to")?, number("count").unwrap_or(1)),
            "listen" => outcome(TcpListener::bind(text("at")?).and_then(|listener| {
                let local = listener.local_addr()?.to_string();
                self.listener = Some(listener);
                Ok(local)
            })),
            "accept" => outcome(self.accept()),
            "bind" => outcome(UdpSocket::bind(text("at")?).and_then(|socket| {
                let local = socket.local_addr()?.to_string();
                self.datagrams = Some(socket);
                Ok(local)
            })),
            "datagram" => outcome(self.datagram(text("to")?, text("text")?)),
            "flood" => outcome(flood(text("to")?)),
            "gape" => outcome(TcpStream::connect(text("to")?).and_then(|mut stream| read(&mut stream))),
            other => return Err(EnvError::unsupported(format!("no method `{other}`"))),
        })
    }
}

impl Talker {
    fn newest(&mut self) -> io::Result<&mut TcpStream> {
        self.connections.last_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn connect(&mut self, to: &str, timeout: Option<Duration>) -> io::Result<[String; 2]> {
        let stream = match timeout {
            None => TcpStream::connect(to)?,
            Some(timeout) => {
                let to = to.to_socket_addrs()?.next().ok_or(ErrorKind::AddrNotAvailable)?;
                TcpStream::connect_timeout(&to, timeout)?
            }
        };
        let ends = [stream.local_addr()?.to_string(), stream.peer_addr()?.to_string()];
        self.connections.push(stream);
        Ok(ends)
    }

    fn say(&mut self, text: &str) -> io::Result<String> {
        let stream = self.newest()?;
        stream.write_all(text.as_bytes())?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        Ok(String::from_utf8_lossy(&back).into_owned())
    }

    fn end(&mut self) -> io::Result<String> {
        let stream = self.newest()?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        Ok(rest)
    }

    fn many(&mut self, to: &str, count: u64) -> Value {
        for open in 0..count {
            match TcpStream::connect(to) {
                Ok(stream) => self.connections.push(stream),
                Err(error) => return json!({"open": open, "error": format!("{:?}: {error}", error.kind())}),
            }
        }
        json!({"open": count, "error": null})
    }

    fn accept(&mut self) -> io::Result<String> {
        let listener = self.listener.as_ref().ok_or(ErrorKind::NotConnected)?;
        let (mut stream, peer) = listener.accept()?;
        let mut heard = [0; 1024];
        loop {
            match stream.read(&mut heard)? {
                0 => return Ok(peer.to_string()),
                count => stream.write_all(&heard[..count])?,
            }
        }
    }

    fn datagram(&mut self, to: &str, text: &str) -> io::Result<[String; 2]> {
        let socket = self.datagrams.as_ref().ok_or(ErrorKind::NotConnected)?;
        socket.send_to(text.as_bytes(), to)?;
        let mut back = [0; 1024];
        let (count, from) = socket.recv_from(&mut back)?;
        Ok([String::from_utf8_lossy(&back[..count]).into_owned(), from.to_string()])
    }
}

fn read(stream: &mut TcpStream) -> io::Result<String> {
    let mut heard = [0; 1024];
    let count = stream.read(&mut heard)?;
    Ok(String::from_utf8_lossy(&heard[..count]).into_owned())
}

fn flood(to: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(to)?;
    let block = vec![7; 1 << 20];
    loop {
        stream.write_all(&block)?;
    }
}

fn outcome<T: serde::Serialize>(result: io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({"ok": value}),
        Err(error) => json!({"error": format!("{:?}", error.kind()), "message": error.to_string()}),
    }
}

rollcage_sdk::export!(Talker);
