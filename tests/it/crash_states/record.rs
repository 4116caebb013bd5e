//! What the program does to a folder, call by call, as `strace` has seen it.

use std::collections::HashMap;
use std::path::Path;

/// One thing that was done below the recorded folder. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    MakeFolder(String),
    /// A file was opened that is made if it does not exist.
    Create(String),
    /// Bytes were added at the end of a file.
    Append(String, Vec<u8>),
    Truncate(String, usize),
    Rename(String, String),
    Link(String, String),
    Unlink(String),
    /// A sync was begun; what is there now is durable when it ends.
    SyncBegins(u32, String),
    SyncEnds(u32),
    /// Something was printed.
    Said,
}

/// The calls that are recorded.
pub(super) const CALLS: &str = "?mkdir,mkdirat,?open,openat,?creat,write,writev,pwrite64,\
    pwritev,pwritev2,copy_file_range,sendfile,splice,fallocate,truncate,ftruncate,?rename,\
    ?renameat,renameat2,?link,linkat,?unlink,unlinkat,?rmdir,fsync,fdatasync,sync,syncfs";

/// Takes the lines of a record apart.
pub(super) fn parse(text: &str, folder: &Path) -> Vec<Step> {
    let mut parser = Parser { folder: folder.to_str().unwrap(), steps: Vec::new(), syncs: 0 };
    // What each thread has begun and not ended.
    let mut begun: HashMap<&str, Begun> = HashMap::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, Begun { text: start, sync: parser.begin_sync(start) });
        } else if let Some((_, end)) =
            rest.split_once(" resumed>").filter(|_| rest.starts_with('<'))
        {
            let start = begun.remove(thread).unwrap();
            // The result stands in a column of its own.
            let (rest, result) = end.rsplit_once("= ").unwrap();
            parser.end(&format!("{}{} = {result}", start.text, rest.trim_end()), start.sync);
        } else if rest.contains(") = ") {
            let sync = parser.begin_sync(rest);
            parser.end(rest, sync);
        }
    }
    parser.steps
}

struct Begun<'a> {
    text: &'a str,
    sync: Option<u32>,
}

struct Parser<'a> {
    folder: &'a str,
    steps: Vec<Step>,
    syncs: u32,
}

impl Parser<'_> {
    /// The path relative to the recorded folder, if it lies in it.
    fn inside(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(self.folder)?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(rest.to_owned()),
            None => rest.is_empty().then(String::new),
        }
    }

    fn begin_sync(&mut self, text: &str) -> Option<u32> {
        let (call, rest) = text.split_once('(')?;
        if !matches!(call, "fsync" | "fdatasync") {
            return None;
        }
        let path = self.inside(&Arguments { rest }.handle())?;
        self.syncs += 1;
        self.steps.push(Step::SyncBegins(self.syncs, path));
        Some(self.syncs)
    }

    /// A call has come to its end.
    fn end(&mut self, text: &str, sync: Option<u32>) {
        let (call, rest) = text.split_once('(').unwrap();
        let result = rest.rsplit_once(") = ").unwrap().1;
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let mut arguments = Arguments { rest };
        match call {
            "fsync" | "fdatasync" => self.steps.extend(sync.map(Step::SyncEnds)),
            "mkdir" => {
                let path = arguments.string();
                self.steps.extend(self.inside(&path).map(Step::MakeFolder));
            }
            "mkdirat" => {
                let path = arguments.path();
                self.steps.extend(self.inside(&path).map(Step::MakeFolder));
            }
            "open" | "openat" => {
                let path = if call == "open" { arguments.string() } else { arguments.path() };
                let path = self.inside(&path).filter(|_| arguments.rest.contains("O_CREAT"));
                if let Some(path) = path {
                    assert!(!arguments.rest.contains("O_TRUNC"), "nothing is written over: {path}");
                    self.steps.push(Step::Create(path));
                }
            }
            "write" if rest.starts_with("1<") => self.steps.push(Step::Said),
            "write" => {
                let path = arguments.handle();
                let Some(path) = self.inside(&path) else { return };
                let mut bytes = arguments.bytes();
                // Of what was given, so much was taken.
                bytes.truncate(result.parse().unwrap());
                self.steps.push(Step::Append(path, bytes));
            }
            "ftruncate" => {
                let path = arguments.handle();
                let len = arguments.number();
                self.steps.extend(self.inside(&path).map(|path| Step::Truncate(path, len)));
            }
            "renameat" | "renameat2" | "linkat" => {
                let (from, to) = (arguments.path(), arguments.path());
                let (Some(from), Some(to)) = (self.inside(&from), self.inside(&to)) else { return };
                let step = if call == "linkat" { Step::Link } else { Step::Rename };
                self.steps.push(step(from, to));
            }
            "unlink" => {
                let path = arguments.string();
                self.steps.extend(self.inside(&path).map(Step::Unlink));
            }
            "unlinkat" => {
                let path = arguments.path();
                self.steps.extend(self.inside(&path).map(Step::Unlink));
            }
            // Sets space aside; the length stays.
            "fallocate" => assert!(rest.contains("FALLOC_FL_KEEP_SIZE"), "{call}({rest}"),
            // Nothing that a repository's folder is written with. A program that begins to use
            // them has to be followed here.
            _ => assert!(!arguments.rest.contains(&escaped(self.folder)), "{call}({rest}"),
        }
    }
}

/// The text as `strace -xx` shows it.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// The arguments of a call, taken one by one from the left.
struct Arguments<'a> {
    rest: &'a str,
}

impl Arguments<'_> {
    /// `3<path>`: the path.
    fn handle(&mut self) -> String {
        let (path, rest) = self.rest.split_once('<').unwrap().1.split_once('>').unwrap();
        self.rest = rest.strip_prefix("(deleted)").unwrap_or(rest);
        self.rest = self.rest.strip_prefix(", ").unwrap_or(self.rest);
        String::from_utf8(unescaped(path)).unwrap()
    }

    /// `"text"`, as bytes.
    fn bytes(&mut self) -> Vec<u8> {
        let (text, rest) = self.rest.strip_prefix('"').unwrap().split_once('"').unwrap();
        assert!(!rest.starts_with("..."), "the record leaves something out");
        self.rest = rest.strip_prefix(", ").unwrap_or(rest);
        unescaped(text)
    }

    fn string(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    fn number(&mut self) -> usize {
        let end = self.rest.find([',', ')']).unwrap_or(self.rest.len());
        self.rest[..end].parse().unwrap()
    }

    /// A folder's handle and a name in it, joined.
    fn path(&mut self) -> String {
        let (folder, name) = (self.handle(), self.string());
        Path::new(&folder).join(name).to_str().unwrap().to_owned()
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let digits: Vec<&[u8]> = text.as_bytes().chunks(4).collect();
    let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    digits
        .into_iter()
        .map(|digits| {
            assert!(digits.len() == 4 && digits.starts_with(b"\\x"), "{text}");
            value(digits[2]) << 4 | value(digits[3])
        })
        .collect()
}

#[test]
fn threads_that_meet_in_a_record_are_told_apart() {
    let text = "7 openat(3</d/r>, \"\\x61\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 4</d/r/a>\n\
        7 write(4</d/r/a>, \"\\x00\\xff\\x0a\", 3 <unfinished ...>\n\
        8 fsync(3</d/r> <unfinished ...>\n\
        7 <... write resumed>) = 2\n\
        8 <... fsync resumed>)              = 0\n\
        8 fsync(4</d/r/a>) = -1 EIO (Input/output error)\n\
        8 openat(AT_FDCWD</d>, \"\\x72\\x2f\\x62\", O_RDONLY) = 5</d/r/b>\n\
        7 +++ exited with 0 +++\n"
        .replace("/d/r/a", &escaped("/d/r/a"))
        .replace("/d/r>", &format!("{}>", escaped("/d/r")))
        .replace("/d>", &format!("{}>", escaped("/d")));
    let steps = parse(&text, Path::new("/d"));
    let wanted = [
        Step::Create("r/a".into()),
        Step::SyncBegins(1, "r".into()),
        Step::Append("r/a".into(), vec![0, 255]),
        Step::SyncEnds(1),
        Step::SyncBegins(2, "r/a".into()),
    ];
    assert_eq!(steps, wanted);
}
