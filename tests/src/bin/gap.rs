//! The worker program with one row of the table of system calls left out: the row whose number is in the program's own
//! name, `gap-17`, since a worker is given nothing else.
#![expect(clippy::unwrap_used, reason = "a program by another name is a mistake of the test")]

fn main() {
    let program = std::fs::read_link("/proc/self/exe").unwrap();
    let name = program.file_name().unwrap().to_str().unwrap();
    // With `all` none is left out: what the others are compared with.
    let left_out: Option<usize> = name.rsplit_once('-').and_then(|(_, row)| row.parse().ok());
    let rows = rollcage::cage::seccomp::TABLE.iter().enumerate().filter(|(row, _)| Some(*row) != left_out);
    rollcage::worker_main_behind(rows.map(|(_, row)| *row).collect::<Vec<_>>().leak());
    panic!("{name} is started by a host");
}
