//! Sockets of envs: plain `std::net` in a guest that was not written for rollcage, over descriptors that the broker opened,
//! to whom was granted and nobody else. Servers are threads of the test, on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rollcage::outside::grant::Refused;
use rollcage::{FaultKind, Grant, Limits, UsageError, VecEnv};
use rollcage_tests::{Process, Rollcage, Scratch, builder, discrete, eventually, fixture, within};
use serde_json::{Value, json};

/// A TCP server that sends everything back. It goes away with the test's process.
struct Echo {
    at: SocketAddr,
    /// Connections that were accepted, ever.
    accepted: Arc<AtomicUsize>,
    /// Connections that are open.
    open: Arc<AtomicUsize>,
}

fn echo_at(address: &str) -> Echo {
    let listener = TcpListener::bind(address).unwrap();
    let at = listener.local_addr().unwrap();
    let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&accepted), Arc::clone(&open));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counters.0.fetch_add(1, SeqCst);
            let open = Arc::clone(&counters.1);
            open.fetch_add(1, SeqCst);
            std::thread::spawn(move || {
                let mut heard = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut heard) {
                    if stream.write_all(&heard[..count]).is_err() {
                        break;
                    }
                }
                open.fetch_sub(1, SeqCst);
            });
        }
    });
    Echo { at, accepted, open }
}

fn echo() -> Echo {
    echo_at("127.0.0.1:0")
}

fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut heard = [0; 4096];
        while let Ok((count, from)) = socket.recv_from(&mut heard) {
            let _ = socket.send_to(&heard[..count], from);
        }
    });
    at
}

/// A talker with these grants, one timeout for each of its calls.
fn talker(grants: &[String]) -> VecEnv {
    let limits = Limits::default().call_timeouts(Duration::from_secs(20));
    talkers(1, grants, limits)
}

fn talkers(envs: usize, grants: &[String], limits: Limits) -> VecEnv {
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap());
    builder(fixture("talker")).envs(envs).limits(limits).grants(grants.collect()).build().unwrap()
}

fn call(envs: &mut VecEnv, method: &str, arguments: Value) -> Value {
    envs.call(0, method, &arguments).unwrap()
}

fn ok(envs: &mut VecEnv, method: &str, arguments: Value) -> Value {
    let end = call(envs, method, arguments);
    end.get("ok").unwrap_or_else(|| panic!("{method}: {end}")).clone()
}

fn refused(what: &str, times: u64) -> Refused {
    Refused { what: what.to_owned(), times }
}

#[test]
fn a_guest_of_the_standard_library_talks_to_a_granted_server() {
    let server = echo();
    let mut envs = talker(&[format!("tcp-connect={}", server.at)]);
    let to = json!({"to": server.at.to_string()});
    let ends = ok(&mut envs, "connect", to.clone());
    assert_eq!(ends[1], json!(server.at.to_string()));
    assert!(ends[0].as_str().unwrap().starts_with("127.0.0.1:"), "{ends}");
    assert_eq!(ok(&mut envs, "say", json!({"text": "hello"})), "hello");
    // More than any buffer in between holds at once.
    let long = "0123456789".repeat(5_000);
    assert_eq!(ok(&mut envs, "say", json!({"text": long})), json!(long));
    // Nothing is there: at once without waiting, and after the timeout with.
    assert_eq!(call(&mut envs, "poll", json!({}))["error"], "WouldBlock");
    let began = Instant::now();
    let error = call(&mut envs, "peek", json!({"ms": 50}));
    assert!(matches!(error["error"].as_str(), Some("WouldBlock" | "TimedOut")), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(45), "{:?}", began.elapsed());
    assert_eq!(ok(&mut envs, "end", json!({})), "");
    let timed = json!({"to": server.at.to_string(), "ms": 5000});
    ok(&mut envs, "connect", timed);
    assert_eq!(ok(&mut envs, "say", json!({"text": "again"})), "again");
    assert_eq!(call(&mut envs, "hang-up", json!({})), 2);
    assert_eq!(server.accepted.load(SeqCst), 2);
    eventually("the server has seen it", 10, || server.open.load(SeqCst) == 0);
    assert_eq!(envs.refused(0), []);
    // Still one thread, which has closed what it had.
    let worker = Process(envs.pid(0).unwrap());
    assert_eq!(worker.status("Threads"), "1");
    assert_eq!(worker.status("Seccomp"), "2");
}

#[test]
fn a_server_by_name_and_by_ipv6() {
    let server = echo();
    let mut envs = talker(&[format!("tcp-connect=localhost:{}", server.at.port())]);
    for to in
        [format!("localhost:{}", server.at.port()), server.at.to_string(), format!("LOCALHOST:{}", server.at.port())]
    {
        ok(&mut envs, "connect", json!({"to": to}));
        assert_eq!(ok(&mut envs, "say", json!({"text": to})), json!(to));
    }
    let other = format!("localhost:{}", server.at.port() ^ 1);
    assert_eq!(call(&mut envs, "connect", json!({"to": other}))["error"], "PermissionDenied");

    let Ok(probe) = TcpListener::bind("[::1]:0") else { return };
    drop(probe);
    let server = echo_at("[::1]:0");
    let mut envs = talker(&[format!("tcp-connect={}", server.at)]);
    ok(&mut envs, "connect", json!({"to": server.at.to_string()}));
    assert_eq!(ok(&mut envs, "say", json!({"text": "six"})), "six");
}

/// Whoever answers for a name in the DNS, or writes `/etc/hosts`, does not let an env into this machine.
#[test]
fn a_granted_name_that_comes_to_mean_loopback_is_refused() {
    let server = echo();
    let port = server.at.port();
    let scratch = Scratch::new("sockets-names");
    let hosts = scratch.file("hosts", "127.0.0.1 simulator.example\n100.100.100.200 metadata.example\n");
    let run = |name: &str, grant: &str| {
        let (host, port) = (format!("--config=host={name}"), format!("--config=port={port}"));
        let arguments = ["run", "go", "--seed=1", "--episodes=1", "--on-fault=raise", &host, &port, grant];
        let command = Rollcage::command_in_mounts("mount --bind \"$0\" /etc/hosts", &hosts);
        command.map(|mut command| within(60, command.args(arguments)))
    };
    let Some(ran) = run("simulator.example", &format!("--grant=tcp-connect=simulator.example:{port}")) else { return };
    let grant = format!("tcp-connect=simulator.example:{port},private");
    let told =
        format!("the name `simulator.example`: 127.0.0.1 is an address of this machine; the grant `{grant}` allows it");
    assert_eq!((ran.status, server.accepted.load(SeqCst)), (Some(1), 0), "{ran:?}");
    let error = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(error.contains(&told), "{ran:?}");
    assert!(ran.stdout.contains(&format!("refused     {told} (1x, 1 env)")), "{ran:?}");

    // As it is told, so it is typed. (It is no GNU Go.)
    let ran = run("simulator.example", &format!("--grant={grant}")).unwrap();
    assert!(!ran.stdout.contains("refused") && !ran.stderr.contains("the name `"), "{ran:?}");
    assert_eq!(server.accepted.load(SeqCst), 1, "{ran:?}");

    // Not even so.
    let ran = run("metadata.example", &format!("--grant=tcp-connect=metadata.example:{port},private")).unwrap();
    let told = "the name `metadata.example`: 100.100.100.200 is the address of a cloud's metadata service, which no name \
                is let mean";
    assert!(ran.status == Some(1) && ran.stderr.contains(told), "{ran:?}");
}

#[test]
fn nobody_else_is_reached_and_the_report_says_who_was_asked_for() {
    let (server, secret) = (echo(), echo());
    let port = server.at.port();
    let mut envs = talker(&[format!("tcp-connect={}", server.at)]);
    let denied = [
        secret.at.to_string(),
        format!("127.0.0.2:{port}"),
        format!("[::1]:{port}"),
        "169.254.169.254:80".to_owned(),
        "10.0.0.1:80".to_owned(),
        "localhost:22".to_owned(),
        "example.com:80".to_owned(),
    ];
    for to in &denied {
        let end = call(&mut envs, "connect", json!({"to": to}));
        assert_eq!(end["error"], "PermissionDenied", "{to}: {end}");
    }
    // No address to connect to, whoever asks.
    for to in [
        format!("0.0.0.0:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "127.0.0.1:0".to_owned(),
    ] {
        let end = call(&mut envs, "connect", json!({"to": to}));
        assert!(matches!(end["error"].as_str(), Some("InvalidInput" | "PermissionDenied")), "{to}: {end}");
    }
    for at in [format!("127.0.0.1:{port}"), "0.0.0.0:8080".to_owned(), "[::]:8080".to_owned(), "127.0.0.1:0".to_owned()]
    {
        let end = call(&mut envs, "listen", json!({"at": at}));
        assert_eq!(end["error"], "PermissionDenied", "{at}: {end}");
    }
    for at in ["0.0.0.0:0", "127.0.0.1:5353"] {
        let end = call(&mut envs, "bind", json!({"at": at}));
        assert_eq!(end["error"], "PermissionDenied", "{at}: {end}");
    }
    assert_eq!((secret.accepted.load(SeqCst), server.accepted.load(SeqCst)), (0, 0));
    let told = envs.refused(0);
    for what in [
        format!("tcp-connect {}", secret.at),
        "tcp-connect 169.254.169.254:80".to_owned(),
        "the addresses of `example.com`".to_owned(),
        "the addresses of `localhost`".to_owned(),
        "tcp-listen 0.0.0.0:8080".to_owned(),
        "udp, bound to 127.0.0.1:5353".to_owned(),
    ] {
        assert!(told.contains(&refused(&what, 1)), "{what}: {told:#?}");
    }
    // Whom it may talk to, it still does.
    ok(&mut envs, "connect", json!({"to": server.at.to_string()}));
    assert_eq!(ok(&mut envs, "say", json!({"text": "still"})), "still");
}

#[test]
fn ten_thousand_sockets_are_eight() {
    let server = echo();
    let mut envs = talker(&[format!("tcp-connect={}", server.at)]);
    let end = call(&mut envs, "many", json!({"to": server.at.to_string(), "count": 10_000}));
    assert_eq!(end["open"], 8, "{end}");
    eventually("the server has seen it", 10, || server.accepted.load(SeqCst) == 8);
    eventually("the report says why", 10, || envs.refused(0) == [refused("more than 8 sockets at once", 1)]);
    // What is closed makes room.
    assert_eq!(call(&mut envs, "hang-up", json!({})), 8);
    let end = call(&mut envs, "many", json!({"to": server.at.to_string(), "count": 8}));
    assert_eq!(end["open"], 8, "{end}");
}

#[test]
fn who_listens_on_a_granted_port_is_found_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut envs = talker(&[format!("tcp-listen={free}")]);
    assert_eq!(ok(&mut envs, "listen", json!({"at": free.to_string()})), json!(free.to_string()));
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(free).unwrap();
        stream.write_all(b"knock").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        (stream.local_addr().unwrap(), back)
    });
    let peer = ok(&mut envs, "accept", json!({}));
    let (from, back) = client.join().unwrap();
    assert_eq!((peer, &back), (json!(from.to_string()), b"knock"));
}

#[test]
fn datagrams_go_to_granted_peers_and_come_from_them() {
    let (one, two, stranger) = (udp_echo(), udp_echo(), udp_echo());
    let mut envs = talker(&[format!("udp={one}"), format!("udp={two}")]);
    let local = ok(&mut envs, "bind", json!({"at": "0.0.0.0:0"}));
    for peer in [one, two, one] {
        let back = ok(&mut envs, "datagram", json!({"to": peer.to_string(), "text": "ping"}));
        assert_eq!(back, json!(["ping", peer.to_string()]));
    }
    let end = call(&mut envs, "datagram", json!({"to": stranger.to_string(), "text": "ping"}));
    assert_eq!(end["error"], "PermissionDenied", "{end}");
    eventually("the report says why", 10, || envs.refused(0) == [refused(&format!("udp {stranger}"), 1)]);
    // Nobody else's datagrams reach it.
    let port = local.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let intruder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _ = intruder.send_to(b"forged", format!("127.0.0.1:{port}"));
    std::thread::sleep(Duration::from_millis(20));
    let back = ok(&mut envs, "datagram", json!({"to": one.to_string(), "text": "real"}));
    assert_eq!(back, json!(["real", one.to_string()]));
}

#[test]
fn a_connection_that_nobody_answers_ends_by_a_deadline() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut envs = talker(&[format!("tcp-connect={nobody}")]);
    assert_eq!(call(&mut envs, "connect", json!({"to": nobody.to_string()}))["error"], "ConnectionRefused");

    // A peer that never reads, and one that never writes: the call's own deadline, and the env goes on in a new instance.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let limits = Limits::default().call_timeouts(Duration::from_millis(500));
    for method in ["flood", "gape"] {
        let mut envs = talkers(1, &[format!("tcp-connect={at}")], limits.clone());
        envs.reset(None).unwrap();
        let began = Instant::now();
        match envs.call(0, method, &json!({"to": at.to_string()})) {
            Err(rollcage::Error::Fault(fault)) => assert_eq!(fault.kind, FaultKind::CallTimeout, "{method}"),
            other => panic!("{method}: {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{method}: {:?}", began.elapsed());
        envs.step(&discrete(&[0])).unwrap();
        envs.reset(None).unwrap();
        assert_eq!(envs.instance(0), Some(1), "{method}");
    }
}

#[test]
fn bytes_over_sockets_have_a_limit() {
    let server = echo();
    let limits = Limits { socket_bytes: 100, ..Limits::default().call_timeouts(Duration::from_secs(20)) };
    let mut envs = talkers(1, &[format!("tcp-connect={}", server.at)], limits);
    ok(&mut envs, "connect", json!({"to": server.at.to_string()}));
    ok(&mut envs, "say", json!({"text": "0123456789".repeat(5)}));
    let end = call(&mut envs, "say", json!({"text": "more"}));
    assert!(end["error"].is_string(), "{end}");
    // It is told by the broker's thread.
    eventually("the report says why", 10, || {
        envs.refused(0).iter().any(|refused| refused.what == "more than 100 bytes over its sockets")
    });
}

#[test]
fn without_a_grant_there_is_no_network_at_all() {
    let server = echo();
    let mut envs = talker(&[]);
    let end = call(&mut envs, "connect", json!({"to": server.at.to_string()}));
    assert_eq!(end["error"], "PermissionDenied", "{end}");
    let end = call(&mut envs, "bind", json!({"at": "0.0.0.0:0"}));
    assert_eq!(end["error"], "PermissionDenied", "{end}");
    assert_eq!(server.accepted.load(SeqCst), 0);
}

/// The story's second pain: `TypeError: cannot pickle 'socket' object`.
#[test]
fn pain_the_socket_that_could_not_be_pickled() {
    let server = echo();
    // Begun by the host: logged in, so to say. The env goes on with the same connection.
    let open = || {
        let mut stream = TcpStream::connect(server.at).unwrap();
        stream.write_all(b"hello from the host").unwrap();
        let mut back = [0; 19];
        stream.read_exact(&mut back).unwrap();
        stream
    };
    let first = open();
    let from = first.local_addr().unwrap();
    let limits = Limits::default().call_timeouts(Duration::from_secs(1));
    let mut envs = builder(fixture("talker")).envs(2).limits(limits).connection(0, first).build().unwrap();
    let to = json!({"to": server.at.to_string()});
    let ends = ok(&mut envs, "connect", to.clone());
    assert_eq!(ends[0], json!(from.to_string()), "the very connection");
    assert_eq!(ok(&mut envs, "say", json!({"text": "and from the env"})), "and from the env");
    assert_eq!(server.accepted.load(SeqCst), 1);
    // It was one, for one env, once.
    assert_eq!(call(&mut envs, "connect", to.clone())["error"], "PermissionDenied");
    assert_eq!(envs.call(1, "connect", &to).unwrap()["error"], "PermissionDenied");

    // Killed with an open socket: the socket ends, the env starts again, and is handed another.
    envs.reset(None).unwrap();
    rustix::process::kill_process(pid_of(&envs), rustix::process::Signal::KILL).unwrap();
    envs.step(&discrete(&[0, 0])).unwrap();
    envs.step(&discrete(&[0, 0])).unwrap();
    assert_eq!(envs.instance(0), Some(1));
    eventually("the server has seen it", 10, || server.open.load(SeqCst) == 0);
    envs.hand_over(0, open()).unwrap();
    ok(&mut envs, "connect", to);
    assert_eq!(ok(&mut envs, "say", json!({"text": "the second"})), "the second");

    // A worker that was started without sockets cannot use one.
    let mut none = talker(&[]);
    match none.hand_over(0, open()) {
        Err(rollcage::Error::Usage(UsageError { message, .. })) => assert!(message.contains("without sockets")),
        other => panic!("{other:?}"),
    }
}

fn pid_of(envs: &VecEnv) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(envs.pid(0).unwrap()).unwrap()).unwrap()
}

#[test]
fn many_envs_talk_at_once() {
    let server = echo();
    let limits = Limits::default().call_timeouts(Duration::from_secs(20));
    let mut envs = talkers(16, &[format!("tcp-connect={}", server.at)], limits);
    for env in 0..16 {
        let end = envs.call(env, "connect", &json!({"to": server.at.to_string()})).unwrap();
        assert!(end["ok"].is_array(), "{env}: {end}");
    }
    for env in 0..16 {
        let text = format!("I am {env}");
        assert_eq!(envs.call(env, "say", &json!({"text": text})).unwrap()["ok"], json!(text));
    }
    drop(envs);
    eventually("the server has seen it", 10, || server.open.load(SeqCst) == 0);
}

/// Envs of a fixture with a config and grants.
fn fixture_with(name: &str, config: &Value, grants: &[String], limits: Limits) -> VecEnv {
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap());
    builder(fixture(name)).config(config).unwrap().limits(limits).grants(grants.collect()).build().unwrap()
}

/// Code that knows nothing of rollcage, every call of `std::net`: a step fails where one went wrong.
#[test]
fn a_guest_that_was_not_written_for_rollcage_works_unchanged() {
    let (server, datagrams) = (echo(), udp_echo());
    let limits = Limits::default().call_timeouts(Duration::from_secs(30));
    for (protocol, address, grant) in [
        ("tcp", server.at.to_string(), format!("tcp-connect={}", server.at)),
        ("tcp", format!("localhost:{}", server.at.port()), format!("tcp-connect=localhost:{}", server.at.port())),
        ("udp", datagrams.to_string(), format!("udp={datagrams}")),
    ] {
        let config = json!({"address": address, "protocol": protocol, "bytes": 5000, "strict": true});
        // It polls with sleeps in between, which take no time on a virtual clock.
        let grants = [grant.clone(), "clock=real".to_owned()];
        let mut envs = fixture_with("plain-echo", &config, &grants, limits.clone());
        envs.reset(None).unwrap();
        for _ in 0..3 {
            envs.step(&discrete(&[0])).unwrap();
        }
        let report = call(&mut envs, "report", json!({}));
        assert_eq!(envs.faults().total(), 0, "{grant}: {report:#} {:?}", envs.faults().first());
        assert!(report.as_object().unwrap().values().all(|end| end.get("ok").is_some()), "{grant}: {report:#}");
    }
}

#[test]
fn hostile_guests_get_nowhere_beside_what_was_granted() {
    let server = echo();
    let grant = [format!("tcp-connect={}", server.at), "udp=127.0.0.1:9".to_owned()];
    let limits = Limits::default().call_timeouts(Duration::from_secs(20));
    // Without what is written as an address: it is one, and nobody is asked.
    let names = json!({"names": ["localhost", "example.com", "metadata.google.internal"]});
    let mut envs = fixture_with("dial", &names, &grant, limits.clone());
    envs.reset(None).unwrap();
    for _ in 0..6 {
        envs.step(&discrete(&[0])).unwrap();
    }
    assert_eq!(envs.faults().total(), 0, "{:?}", envs.faults().first());
    assert_eq!(server.accepted.load(SeqCst), 0);

    let config = json!({"address": server.at.to_string()});
    let mut envs = fixture_with("dial-many", &config, &grant, limits);
    envs.reset(None).unwrap();
    for _ in 0..6 {
        envs.step(&discrete(&[0])).unwrap();
    }
    let report = call(&mut envs, "report", json!({}));
    assert_eq!(report["opened"], 8, "{report}");
}

#[test]
fn guests_that_never_end_meet_their_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let reader = udp_echo();
    let limits = Limits::default().call_timeouts(Duration::from_millis(500));
    for (name, config) in [
        ("never-reads", json!({"address": at.to_string()})),
        ("never-writes", json!({"address": at.to_string()})),
        ("sends-for-ever", json!({"address": at.to_string(), "protocol": "tcp"})),
        ("sends-for-ever", json!({"address": reader.to_string(), "protocol": "udp"})),
    ] {
        let grants = [format!("tcp-connect={at}"), format!("udp={reader}")];
        let mut envs = fixture_with(name, &config, &grants, limits.clone());
        envs.reset(None).unwrap();
        let began = Instant::now();
        for _ in 0..6 {
            if envs.faults().total() > 0 {
                break;
            }
            envs.step(&discrete(&[0])).unwrap();
        }
        let fault = envs.faults().first().first().unwrap_or_else(|| panic!("{name} {config}: no fault"));
        assert_eq!(fault.kind, FaultKind::StepTimeout, "{name}: {}", fault.message);
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
    }
}
