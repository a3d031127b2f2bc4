//! What users of other tools type, and the command that does it here.

/// The answer to a command that is none.
struct Habit {
    /// The words that it begins with, in lower case; of two that fit, the one with more words counts.
    typed: &'static [&'static str],
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    /// A command, with the arguments that it takes.
    Use(&'static str, &'static str),
    /// There is none: why, and what does the work.
    None(&'static str),
}

const fn habit(answer: Answer, typed: &'static [&'static str]) -> Habit {
    Habit { typed, answer }
}

const fn command(command: &'static str, typed: &'static [&'static str]) -> Habit {
    habit(Answer::Use(command, ""), typed)
}

const TRANSACTIONS: Answer = Answer::None(
    "there are no transactions: 'vwatch put' writes one name, and 'vwatch lock' keeps others out meanwhile",
);
const COUNTERS: Answer = Answer::None(
    "a value is not changed in its place: read it, and write it under a lease: 'vwatch lock NAME -- COMMAND'",
);
const CONDITIONS: Answer = Answer::None(
    "there are no conditional writes: 'vwatch lock NAME -- COMMAND' lets one writer at a time change a name",
);
const STRUCTURES: Answer =
    Answer::None("a value is bytes: give each part a name of its own, and list them by 'vwatch ls PREFIX'");
const MEMBERSHIP: Answer =
    Answer::None("nodes join by --replicate-with and leave when they stop: 'vwatch members' shows them");
const NO_LEADER: Answer =
    Answer::None("there is no leader: all nodes take writes: 'vwatch members' shows them");
const NO_DISK: Answer = Answer::None(
    "a node has no files of data: 'vwatch compact' drops older versions, and 'vwatch export' saves what stands",
);
const NO_PROFILES: Answer = Answer::None(
    "settings are the variables VWATCH_CLIENT_URL, VWATCH_SERVER_URL and VWATCH_NAMESPACE, or the same as options",
);
const HTTP_ONLY: Answer = Answer::None(
    "there are no requests between clients: write a name with 'vwatch put', and wait for its answer with \
     'vwatch watch'",
);

/// Commands of one word, by what does their work here.
const SINGLE: &[(&str, &[&str])] = &[
    (
        "put",
        &[
            "set", "write", "update", "create", "add", "store", "publish", "pub", "push", "post", "edit",
            "mset", "annotate", "label", "patch", "replace", "getset",
        ],
    ),
    (
        "get",
        &[
            "read", "show", "cat", "fetch", "query", "describe", "pull", "lookup", "mget", "exists", "type",
            "strlen",
        ],
    ),
    ("del", &["delete", "rm", "remove", "unset", "erase", "unlink", "getdel", "flushall", "flushdb"]),
    ("ls", &["list", "dir", "keys", "names", "scan", "tree", "find", "dbsize"]),
    (
        "watch",
        &["follow", "tail", "wait", "subscribe", "sub", "psubscribe", "listen", "poll", "monitor", "observe"],
    ),
    ("members", &["nodes", "peers", "cluster", "member", "group", "cluster-info", "catalog"]),
    (
        "health",
        &["status", "ping", "ready", "check", "healthz", "readyz", "info", "endpoint", "rtt", "alarm"],
    ),
    ("serve", &["start", "run", "server", "node", "daemon", "agent"]),
    ("mirror", &["sync", "replicate", "sidecar", "template", "download", "make-mirror"]),
    ("diff", &["changes", "changed", "since", "difference"]),
    ("history", &["log", "logs", "versions", "revisions", "past", "rollout"]),
    ("revert", &["undo", "rollback", "reset"]),
    ("compact", &["purge", "prune", "trim", "compaction"]),
    ("history-depth", &["depth"]),
    ("namespaces", &["namespace", "ns", "spaces", "databases"]),
    ("event", &["events", "emit", "append", "xadd", "stream"]),
    ("checkpoint", &["consumer"]),
    ("export", &["dump", "backup", "snapshot", "save", "bgsave"]),
    ("import", &["apply", "load-set", "restore"]),
    ("lock", &["flock", "mutex", "semaphore", "acquire", "exclusive", "elect", "setnx"]),
    ("lease", &["leases", "locks", "release", "renew", "grant", "session"]),
    ("completions", &["completion", "complete"]),
    ("config", &["conf", "settings", "configtest", "validate"]),
    ("token", &["acl", "auth", "user", "role", "account"]),
    ("bench", &["benchmark", "perf", "load"]),
];

/// Commands of several words, and those that have an answer of their own.
const HABITS: &[Habit] = &[
    // consul kv, nats kv
    habit(Answer::Use("get", "NAME"), &["kv", "get"]),
    habit(Answer::Use("put", "NAME DATA"), &["kv", "put"]),
    habit(Answer::Use("put", "NAME DATA"), &["kv", "create"]),
    habit(Answer::Use("put", "NAME DATA"), &["kv", "update"]),
    habit(Answer::Use("put", "--namespace NAMESPACE NAME DATA"), &["kv", "add"]),
    habit(Answer::Use("del", "NAME"), &["kv", "del"]),
    habit(Answer::Use("del", "NAME"), &["kv", "rm"]),
    habit(Answer::Use("del", "NAME"), &["kv", "delete"]),
    habit(Answer::Use("compact", "now"), &["kv", "purge"]),
    habit(Answer::Use("watch", "NAME"), &["kv", "watch"]),
    habit(Answer::Use("history", "NAME"), &["kv", "history"]),
    habit(Answer::Use("revert", "NAME REVISION"), &["kv", "revert"]),
    habit(Answer::Use("ls", "[PREFIX]"), &["kv", "ls"]),
    habit(Answer::Use("ls", "[PREFIX]"), &["kv", "list"]),
    habit(Answer::Use("namespaces", "-w table"), &["kv", "info"]),
    habit(Answer::Use("namespaces", "-w table"), &["kv", "status"]),
    habit(Answer::Use("export", "[FILE]"), &["kv", "export"]),
    habit(Answer::Use("import", "FILE"), &["kv", "import"]),
    habit(
        Answer::None("a name is one word here: 'vwatch get', 'vwatch put', 'vwatch del', 'vwatch ls'"),
        &["kv"],
    ),
    // etcdctl
    habit(Answer::Use("members", ""), &["member", "list"]),
    habit(MEMBERSHIP, &["member", "add"]),
    habit(MEMBERSHIP, &["member", "remove"]),
    habit(MEMBERSHIP, &["member", "update"]),
    habit(MEMBERSHIP, &["member", "promote"]),
    habit(Answer::Use("health", "[URL]"), &["endpoint", "health"]),
    habit(Answer::Use("members", ""), &["endpoint", "status"]),
    habit(Answer::Use("members", ""), &["endpoint", "hashkv"]),
    habit(Answer::Use("export", "FILE"), &["snapshot", "save"]),
    habit(Answer::Use("import", "FILE"), &["snapshot", "restore"]),
    habit(Answer::Use("ls", ""), &["snapshot", "status"]),
    habit(Answer::Use("health", ""), &["alarm", "list"]),
    habit(Answer::Use("bench put", ""), &["check", "perf"]),
    habit(NO_DISK, &["defrag"]),
    habit(NO_LEADER, &["move-leader"]),
    habit(TRANSACTIONS, &["txn"]),
    habit(Answer::Use("lease release", "PATH TOKEN"), &["lease", "revoke"]),
    habit(Answer::Use("lease renew", "PATH TOKEN ID"), &["lease", "keep-alive"]),
    habit(Answer::Use("lease ls", "[PREFIX]"), &["lease", "list"]),
    habit(Answer::Use("lease ls", "-w table"), &["lease", "timetolive"]),
    habit(Answer::Use("token new", "NAME --read PREFIX"), &["user", "add"]),
    habit(Answer::Use("token new", "NAME --read PREFIX"), &["role", "add"]),
    // consul
    habit(Answer::Use("members", ""), &["catalog", "nodes"]),
    habit(Answer::Use("ls", ""), &["catalog", "services"]),
    habit(Answer::Use("members", ""), &["operator"]),
    habit(Answer::Use("token new", "NAME --read PREFIX"), &["acl", "token"]),
    habit(Answer::Use("token new", "NAME --read PREFIX"), &["acl", "policy"]),
    habit(MEMBERSHIP, &["join"]),
    habit(MEMBERSHIP, &["leave"]),
    habit(MEMBERSHIP, &["force-leave"]),
    habit(
        Answer::None("a node reads its files of tokens, secrets and certificates again at SIGHUP"),
        &["reload"],
    ),
    // nats
    habit(HTTP_ONLY, &["req"]),
    habit(HTTP_ONLY, &["request"]),
    habit(HTTP_ONLY, &["reply"]),
    habit(Answer::Use("event put", "--namespace log.NAME TYPE --data TEXT"), &["stream", "add"]),
    habit(Answer::Use("namespaces", "log."), &["stream", "ls"]),
    habit(Answer::Use("checkpoint ls", ""), &["consumer", "ls"]),
    habit(Answer::Use("checkpoint set", "ID CURSOR"), &["consumer", "add"]),
    habit(Answer::Use("health", ""), &["server", "check"]),
    habit(Answer::Use("health", ""), &["server", "ping"]),
    habit(Answer::Use("members", ""), &["server", "ls"]),
    habit(Answer::Use("members", ""), &["server", "list"]),
    habit(Answer::Use("members", ""), &["server", "info"]),
    habit(NO_PROFILES, &["context"]),
    // kubectl
    habit(Answer::Use("revert", "NAME REVISION"), &["rollout", "undo"]),
    habit(Answer::Use("history", "NAME"), &["rollout", "history"]),
    habit(Answer::Use("watch", "NAME"), &["rollout", "status"]),
    habit(Answer::Use("namespaces", "-w table"), &["top"]),
    habit(Answer::None("each command explains itself: 'vwatch COMMAND --help'"), &["explain"]),
    habit(NO_PROFILES, &["config", "view"]),
    habit(NO_PROFILES, &["config", "use-context"]),
    // redis-cli
    habit(Answer::Use("put", "--expires 60s NAME DATA"), &["setex"]),
    habit(Answer::Use("put", "--expires 60s NAME DATA"), &["expire"]),
    habit(Answer::Use("get", "-v NAME"), &["ttl"]),
    habit(Answer::Use("del", "--prefix ''"), &["flushall"]),
    habit(Answer::Use("del", "--prefix ''"), &["flushdb"]),
    habit(Answer::Use("lock", "NAME -- COMMAND"), &["setnx"]),
    habit(Answer::Use("put", "NAME DATA, once for each"), &["mset"]),
    habit(Answer::Use("namespaces", ""), &["select"]),
    habit(COUNTERS, &["incr"]),
    habit(COUNTERS, &["incrby"]),
    habit(COUNTERS, &["decr"]),
    habit(STRUCTURES, &["hget"]),
    habit(STRUCTURES, &["hset"]),
    habit(STRUCTURES, &["hgetall"]),
    habit(STRUCTURES, &["lpush"]),
    habit(STRUCTURES, &["rpush"]),
    habit(STRUCTURES, &["lrange"]),
    habit(STRUCTURES, &["sadd"]),
    habit(STRUCTURES, &["smembers"]),
    habit(STRUCTURES, &["zadd"]),
    habit(TRANSACTIONS, &["multi"]),
    habit(TRANSACTIONS, &["exec"]),
    habit(TRANSACTIONS, &["eval"]),
    habit(CONDITIONS, &["cas"]),
    habit(Answer::None("a name is not renamed: write the new one, and delete the old one"), &["rename"]),
    habit(Answer::None("stop a node with SIGTERM: it answers its readers before it ends"), &["shutdown"]),
    habit(Answer::None("stop a node with SIGTERM: it answers its readers before it ends"), &["stop"]),
    habit(Answer::Use("serve", ""), &["restart"]),
    command("namespaces", &["use"]),
];

/// What to do in the place of a command that is none. `words` are those that were typed, without options.
pub(super) fn instead(words: &[&str]) -> Option<String> {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let fits = |habit: &&Habit| {
        habit.typed.len() <= words.len() && habit.typed.iter().zip(&words).all(|(habit, word)| habit == word)
    };
    let longest = HABITS.iter().filter(fits).max_by_key(|habit| habit.typed.len());
    let answer = longest.map(|habit| habit.answer).or_else(|| single(words.first()?));
    answer.map(|answer| match answer {
        Answer::Use(command, "") => format!("use 'vwatch {command}': try 'vwatch {command} --help'"),
        Answer::Use(command, arguments) => {
            format!("use 'vwatch {command} {arguments}': try 'vwatch {command} --help'")
        }
        Answer::None(why) => format!("{why}: try 'vwatch --help'"),
    })
}

fn single(word: &str) -> Option<Answer> {
    let is_it = |(command, habits): &&(&'static str, &[&str])| *command == word || habits.contains(&word);
    SINGLE.iter().find(is_it).map(|(command, _)| Answer::Use(command, ""))
}

/// How many of the words that were typed are the command of a habit: they are quoted in its message.
pub(super) fn length(words: &[&str]) -> usize {
    let fits = |habit: &&Habit| {
        habit.typed.len() <= words.len()
            && habit.typed.iter().zip(words).all(|(habit, word)| habit.eq_ignore_ascii_case(word))
    };
    HABITS.iter().filter(fits).map(|habit| habit.typed.len()).max().unwrap_or(1)
}

/// What does the work of an option of other tools. Both have their dashes.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["--endpoints", "--endpoint", "--server", "--http-addr", "-http-addr", "--host", "-s", "--nodes"],
        "nodes are named by --client-url (reads) and --server-url (writes)",
    ),
    (
        &["--cacert", "--ca-file", "-ca-file", "--tlsca", "--certificate-authority", "--trusted-ca-file"],
        "use --ca FILE",
    ),
    (&["--tlscert", "--client-cert", "--client-certificate", "--cert-file"], "use --cert FILE"),
    (&["--tlskey", "--client-key", "--key-file"], "use --key FILE"),
    (
        &["--token", "-token", "--user", "--password", "-a", "--auth", "--creds"],
        "use --token-file FILE, or the variable VWATCH_TOKEN",
    ),
    (&["--format", "--write-out", "-o", "--json"], "use -w json, -w table or -w simple"),
    (&["--ns", "--bucket"], "use --namespace NAMESPACE"),
    (&["--recurse", "-recurse", "--recursive", "-r", "-R"], "use --prefix PREFIX"),
    (&["--ttl", "--ex", "--px", "--expire"], "use --expires DURATION, such as 60s"),
    (&["--keys-only"], "names alone: 'vwatch ls PREFIX'"),
    (&["--count-only"], "count lines: vwatch ls PREFIX | wc -l"),
    (&["--print-value-only"], "'vwatch get NAME' prints the data and nothing else"),
    (&["--prev-kv"], "'vwatch history NAME' has the versions before"),
    (&["--sort-by", "--order", "--ascend", "--descend"], "names come in the order of their bytes"),
    (&["--yes", "-y", "--no-confirm"], "use -f"),
];

/// What does the work of an option that is none.
pub(super) fn option_instead(option: &str) -> Option<&'static str> {
    OPTIONS.iter().find(|(options, _)| options.contains(&option)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_habit_counts() {
        for (words, said) in [
            (&["set", "a", "b"][..], "use 'vwatch put': try 'vwatch put --help'"),
            (&["KV", "Get", "a"], "use 'vwatch get NAME': try 'vwatch get --help'"),
            (
                &["kv"],
                "a name is one word here: 'vwatch get', 'vwatch put', 'vwatch del', 'vwatch ls': try 'vwatch --help'",
            ),
            (&["member", "list"], "use 'vwatch members': try 'vwatch members --help'"),
            (&["member"], "use 'vwatch members': try 'vwatch members --help'"),
            (
                &["lease", "revoke", "7"],
                "use 'vwatch lease release PATH TOKEN': try 'vwatch lease release --help'",
            ),
        ] {
            assert_eq!(instead(words).as_deref(), Some(said), "{words:?}");
        }
        assert_eq!(instead(&["nonsense"]), None);
        assert_eq!(instead(&[]), None);
        assert_eq!((length(&["kv", "get", "a"]), length(&["set", "a"])), (2, 1));
    }

    #[test]
    fn habits_lead_to_commands_that_are_there_and_are_none_themselves() {
        let root = super::super::command();
        let find = |words: &[&str]| {
            let mut at = Some(&root);
            words.iter().for_each(|word| at = at.and_then(|command| command.find_subcommand(word)));
            at.is_some()
        };
        let used = HABITS.iter().filter_map(|habit| match habit.answer {
            Answer::Use(command, _) => Some(command),
            Answer::None(_) => None,
        });
        for command in used.chain(SINGLE.iter().map(|(command, _)| *command)) {
            assert!(find(&command.split(' ').collect::<Vec<_>>()), "{command}");
        }
        for typed in HABITS.iter().map(|habit| habit.typed) {
            assert!(!find(typed), "{typed:?} is a command");
        }
        for (_, habits) in SINGLE {
            assert!(habits.iter().all(|habit| !find(&[habit])), "{habits:?}");
        }
    }
}
