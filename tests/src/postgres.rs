//! A real PostgreSQL for tests: a cluster of its own on a free port, started when the first test asks for it and gone
//! with the test process, however that ends.
//!
//! Where no PostgreSQL is installed the tests that need one fail and say so; `TANDEM_WITHOUT_POSTGRES=1` is the
//! explicit wish to leave them out.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the server may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the server, and removes its folder, once nobody holds the other end of the standard input.
const KEEPER: &str = r#"
"$1/postgres" -D "$2" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
  -c max_connections=300 -c fsync="$4" >"$2/log" 2>&1 &
server=$!
cat >/dev/null
kill -INT "$server"
wait "$server"
rm -rf "$2"
"#;

/// A running server with room for many databases.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    port: u16,
    /// Holds the standard input that keeps the server up.
    _keeper: Child,
}

/// Whether what is acknowledged must outlive the machine, or the process alone. Tests are content with the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Disk,
    /// Nothing is forced to disk: many times faster on slow ones.
    Memory,
}

/// The cluster that the tests of this process share; `None` when they are to run without.
///
/// # Panics
/// When there is no PostgreSQL on this machine and nobody asked to go without.
#[must_use]
pub fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    if std::env::var_os("TANDEM_WITHOUT_POSTGRES").is_some_and(|value| value == "1") {
        eprintln!("left out: TANDEM_WITHOUT_POSTGRES=1");
        return None;
    }
    // Tests kill the server under test, never the machine.
    let is_durable = std::env::var_os("TANDEM_POSTGRES_FSYNC").is_some_and(|value| value == "1");
    let durability = if is_durable { Durability::Disk } else { Durability::Memory };
    Some(CLUSTER.get_or_init(|| Cluster::start(durability)))
}

impl Cluster {
    /// Starts a cluster of its own.
    ///
    /// # Panics
    /// When there is no PostgreSQL on this machine, or it does not start.
    #[must_use]
    pub fn start(durability: Durability) -> Self {
        let programs = programs().expect(
            "these tests need PostgreSQL: install Debian's package postgresql, or set TANDEM_WITHOUT_POSTGRES=1",
        );
        // Another process may take the port between our look and the server's.
        (0..5)
            .find_map(|_| Self::try_start(&programs, durability))
            .expect("PostgreSQL starts on a free port within a minute")
    }

    fn try_start(programs: &Path, durability: Durability) -> Option<Self> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let place = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tandem-postgres-{}-{place}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for PostgreSQL");
        let user = unprivileged_user(&folder);
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).expect("the folder is given to its user");
        }
        let run = |program: &Path| {
            let mut command = Command::new(program);
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command.current_dir(&folder);
            command
        };
        let made = run(&programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=tandem", "--encoding=UTF8", "--pgdata"])
            .arg(&folder)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let keeper = run(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper"])
            .arg(programs)
            .arg(&folder)
            .arg(port.to_string())
            .arg(match durability {
                Durability::Disk => "on",
                Durability::Memory => "off",
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell runs");
        let cluster = Self { programs: programs.to_owned(), port, _keeper: keeper };
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            if cluster.psql("SELECT 1").is_ok() {
                return Some(cluster);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    /// A new, empty database; its address.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self) -> String {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name}")).expect("a new database");
        format!("postgres://tandem@127.0.0.1:{}/{name}", self.port)
    }

    fn psql(&self, statement: &str) -> Result<(), String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "tandem", "-d", "postgres", "-qc"])
            .arg(statement)
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

/// The folder of the newest PostgreSQL's programs: Debian keeps the server's own out of the search path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort();
    let search = std::env::var_os("PATH").unwrap_or_default();
    let debian = folders.into_iter().rev().map(|(_, folder)| folder);
    debian
        .chain(std::env::split_paths(&search))
        .find(|folder| ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).exists()))
}

/// PostgreSQL refuses to run as root: then the user of Debian's package, or whoever is least.
fn unprivileged_user(own: &Path) -> Option<(u32, u32)> {
    let is_root = std::fs::metadata(own).is_ok_and(|folder| folder.uid() == 0);
    let ids = |name: &str| {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    is_root.then(|| ids("postgres").or_else(|| ids("nobody")).expect("a user that is not root"))
}
