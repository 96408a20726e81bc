//! `tazpod enter`: on terminals and without, several at once, and what comes in and goes out. With a real engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
mod user;

use std::io::Read;
use std::process::Stdio;

use docker::{Engine, Lab};
use rustix::process::Signal;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use user::{ACCOUNT, eventually, signal};

#[test]
fn two_shells_on_terminals_have_their_sizes_signals_and_exit_statuses() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    lab.shell_ok("tazpod up");
    let mut shells: Vec<_> =
        (0..2).map(|_| lab.on_terminal("stty rows 33 cols 101; tazpod enter; echo ended $?")).collect();
    for (number, shell) in shells.iter_mut().enumerate() {
        shell.exp_regex(r"\$ ").unwrap();
        shell.send_line("stty size; echo $TERM.").unwrap();
        shell.exp_string("33 101").unwrap();
        let terminal = shell.process().get_file_handle().unwrap();
        let size = Winsize { ws_row: 40, ws_col: 120 + u16::try_from(number).unwrap(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        shell.send_line("stty size").unwrap();
        shell.exp_string(&format!("40 {}", 120 + number)).unwrap();
    }
    let shell = &mut shells[0];
    // Ctrl-C is for the program inside, ctrl-p for the shell; text is UTF-8.
    shell.send_line("echo begun; sleep 1000; echo after: $?").unwrap();
    shell.exp_string("begun\r\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    shell.send_control('c').unwrap();
    shell.send_line("echo still-here ümläut").unwrap();
    // It reads bytes.
    let text: String = "\nstill-here ümläut".bytes().map(char::from).collect();
    shell.exp_string(&text).unwrap();
    // Bytes that look like headers of the engine's do not stop what is shown.
    shell.send_line("head -c 300000 /bin/busybox | tr -d '\\n' | tail -c 1000 | wc -c; printf '\\001\\002\\000\\000\\000\\377\\377\\377x'; echo '' past").unwrap();
    shell.exp_string(" past").unwrap();
    shell.send_line("exit 42").unwrap();
    shell.exp_string("ended 42").unwrap();
    shells[1].send_line("exit 7").unwrap();
    shells[1].exp_string("ended 7").unwrap();
}

#[test]
fn a_terminal_is_given_back_when_the_tool_is_ended_and_the_program_inside_hears_of_it() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    lab.shell_ok("tazpod up");
    let sleeps = || lab.inside_ok("ps -o args").contains("sleep 4321");
    for (end, status) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::KILL, 137)] {
        let mut shell = lab.on_terminal("tazpod enter -- sh -c 'echo in$((40+2)); exec sleep 4321'; echo ended $?");
        shell.exp_string("in42").unwrap();
        let terminal = shell.process().get_file_handle().unwrap();
        let is_raw = || !tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ICANON);
        eventually("the terminal is raw", is_raw);
        assert!(sleeps());
        signal(tool(&lab), end);
        shell.exp_string(&format!("ended {status}")).unwrap();
        assert!(end == Signal::KILL || !is_raw(), "the terminal is as it was");
        eventually("the program inside has ended", || !sleeps());
    }
    eventually("nothing of it is left", || lab.user.processes().is_empty());
    let (status, _, told) = lab.shell("tazpod enter -- no-such-program");
    assert!(matches!(status, 126 | 127), "{status}: {told}");
}

#[test]
fn pipes_work_both_ways_and_flags_are_those_of_docker_exec() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    lab.shell_ok("tazpod up && mkdir -p sub/deep");
    // Everything goes in, its end is told, everything comes out, however much and whatever it is.
    let sum = lab.shell_ok("head -c 5000000 /dev/urandom > data; sha256sum < data");
    assert_eq!(lab.shell_ok("tazpod enter -- cat < data | sha256sum"), sum);
    assert_eq!(lab.shell_ok("cat data | tazpod enter -- sha256sum"), sum);
    assert_eq!(lab.shell_ok("echo 'echo from-a-script; exit 3' | tazpod enter; echo $?"), "from-a-script\n3\n");
    let (status, out, err) = lab.shell("tazpod enter -- sh -c 'echo out; echo err >&2; exit 42'");
    assert_eq!((status, out.as_str(), err.as_str()), (42, "out\n", "err\n"));
    // It reads no more than it must: nobody inside does.
    assert_eq!(lab.shell_ok("yes | head -c 10000000 | tazpod enter -- true; echo $?"), "0\n");
    assert_eq!(lab.shell_ok("tazpod enter -- sh -c 'yes | head -c 3000000' | head -c 5 | wc -c"), "5\n");
    let (status, _, told) =
        lab.shell("tazpod enter -- sh -c 'echo $$ > /tmp/pid; yes' | head -n 1; exit ${PIPESTATUS[0]}");
    assert_eq!((status, told.as_str()), (141, ""), "nobody takes what comes out");
    eventually("it ended inside", || lab.inside("kill -0 $(cat /tmp/pid)").0 != 0);

    assert_eq!(lab.shell_ok("tazpod enter -u root -- id -u"), "0\n");
    assert_eq!(lab.shell_ok("tazpod enter -w /tmp -- pwd"), "/tmp\n");
    assert_eq!(lab.shell_ok("cd sub/deep && tazpod enter -- pwd"), "/workspace/sub/deep\n");
    assert_eq!(
        lab.shell_ok("export FROM=here; tazpod enter -e A=1 -e FROM -e MISSING -- sh -c 'echo $A $FROM $MISSING.'"),
        "1 here .\n"
    );
    assert_eq!(lab.shell_ok("tazpod ssh -- echo the old name"), "the old name\n");
    assert_eq!(lab.shell_ok("tazpod enter -- sh -c 'echo $LANG.$TERM.'"), "C.UTF-8..\n");

    // A signal to the tool ends what runs inside.
    let mut running = lab
        .user
        .command(&format!(
            "export DOCKER_HOST={}; cd p; exec tazpod enter -- sh -c 'echo ready; exec sleep 1234'",
            lab.host
        ))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    running.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    signal(tool(&lab), Signal::INT);
    assert_eq!(running.wait().unwrap().code(), Some(130));
    eventually("it ended inside, too", || !lab.inside_ok("ps -o args").contains("sleep 1234"));

    engine.docker(&["stop", "--time", "1", &lab.name]);
    let (status, _, told) = lab.shell("tazpod enter -- true");
    assert_eq!(status, 8, "{told}");
    let mut asked = lab.on_terminal("tazpod enter -- echo started-again; echo ended $?");
    asked.exp_string("Start it? [y/N]").unwrap();
    asked.send("y\r").unwrap();
    asked.flush().unwrap();
    asked.exp_string("started-again").unwrap();
    asked.exp_string("ended 0").unwrap();
}

#[test]
fn what_ends_with_the_container_is_told_and_a_terminal_is_asked() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    lab.shell_ok("tazpod up");
    let begin = |number: u32| {
        let mut shell = lab
            .on_terminal(&format!("tazpod enter -- sh -c 'echo in$((40+2)); exec sleep 432{number}'; echo ended $?"));
        shell.exp_string("in42").unwrap();
        shell
    };
    let (mut first, mut second) = (begin(1), begin(2));
    for command in ["up --recreate", "down"] {
        let mut asked = lab.on_terminal(&format!("tazpod {command}; echo ended $?"));
        asked.exp_string(&format!("2 programs run in the container '{}' (sh, sh)", lab.name)).unwrap();
        asked.exp_string("[y/N]").unwrap();
        asked.send("\r").unwrap();
        asked.flush().unwrap();
        asked.exp_string("stays as it is").unwrap();
        asked.exp_string("ended 1").unwrap();
    }
    assert_eq!(lab.inside_ok("ps -o args").matches("sleep 432").count(), 2);
    let mut forced = lab.on_terminal("tazpod up --recreate --force; echo ended $?");
    let told = forced.exp_string("ended 0").unwrap();
    assert!(!told.contains("[y/N]"), "{told}");
    for shell in [&mut first, &mut second] {
        shell.exp_string("ended 137").unwrap();
    }
    // Scripts go on, and say what they end.
    let mut last = begin(3);
    let told = lab.shell_ok("tazpod down 2>&1");
    assert!(told.contains("A program runs in the container") && told.contains("Removed the container"), "{told}");
    last.exp_string("ended").unwrap();
    let told = lab.shell_ok("tazpod up 2>&1; tazpod down 2>&1");
    assert!(!told.contains("Warning"), "nobody is in it: {told}");
}

/// The process that talks with a program inside.
fn tool(lab: &Lab) -> i32 {
    let is_enter = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').nth(1) == Some("enter"))
    };
    lab.user.processes().into_iter().find(is_enter).unwrap()
}
