//! What a server itself says that a database holds. A dump that is compared only with itself can
//! lack anything; so a drill asks the restored database the same.

use std::collections::BTreeMap;

/// Tables whose rows are counted, at most, and how many rows the server may suppose in one: counting
/// reads the whole table.
const MAX_TABLES: usize = 300;
const MAX_ROWS: u64 = 100_000;
/// What stands before the name of a table whose rows were counted.
pub(in crate::job) const ROWS: &str = "rows of ";

const POSTGRESQL: &str = "WITH s AS (SELECT oid FROM pg_catalog.pg_namespace \
     WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'), \
    e AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'), \
    c AS (SELECT relkind FROM pg_catalog.pg_class WHERE relnamespace IN (SELECT oid FROM s) \
     AND NOT EXISTS (SELECT FROM e WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = oid)) \
    SELECT CASE relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned tables' \
     WHEN 'v' THEN 'views' WHEN 'm' THEN 'materialized views' WHEN 'S' THEN 'sequences' \
     WHEN 'f' THEN 'foreign tables' WHEN 'i' THEN 'indexes' WHEN 'I' THEN 'partitioned indexes' \
     ELSE 'other relations' END, count(*) FROM c GROUP BY 1 \
    UNION ALL SELECT 'schemas', count(*) FROM s \
    UNION ALL SELECT 'functions', count(*) FROM pg_catalog.pg_proc AS p \
     WHERE pronamespace IN (SELECT oid FROM s) AND NOT EXISTS (SELECT FROM e \
     WHERE classid = 'pg_catalog.pg_proc'::regclass AND objid = p.oid) \
    UNION ALL SELECT 'triggers', count(*) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal \
    UNION ALL SELECT 'constraints', count(*) FROM pg_catalog.pg_constraint AS o \
     WHERE connamespace IN (SELECT oid FROM s) AND NOT EXISTS (SELECT FROM e \
     WHERE classid = 'pg_catalog.pg_constraint'::regclass AND objid = o.oid) \
    UNION ALL SELECT 'policies', count(*) FROM pg_catalog.pg_policy \
    UNION ALL SELECT 'event triggers', count(*) FROM pg_catalog.pg_event_trigger \
    UNION ALL SELECT 'extensions', count(*) FROM pg_catalog.pg_extension \
    UNION ALL SELECT 'large objects', count(*) FROM pg_catalog.pg_largeobject_metadata";
/// What is set in a database, but not in its dump.
pub(super) const POSTGRESQL_SETTINGS: &str = "SELECT 'encoding', \
     pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database \
     WHERE datname = pg_catalog.current_database() \
    UNION ALL SELECT 'collation', datcollate FROM pg_catalog.pg_database \
     WHERE datname = pg_catalog.current_database() \
    UNION ALL SELECT 'character-type', datctype FROM pg_catalog.pg_database \
     WHERE datname = pg_catalog.current_database()";

const MARIADB: &str = "SELECT LOWER(table_type), COUNT(*) FROM information_schema.tables \
     WHERE table_schema = DATABASE() GROUP BY 1 \
    UNION ALL SELECT LOWER(routine_type), COUNT(*) FROM information_schema.routines \
     WHERE routine_schema = DATABASE() GROUP BY 1 \
    UNION ALL SELECT 'trigger', COUNT(*) FROM information_schema.triggers \
     WHERE trigger_schema = DATABASE() \
    UNION ALL SELECT 'event', COUNT(*) FROM information_schema.events \
     WHERE event_schema = DATABASE()";
pub(super) const MARIADB_SETTINGS: &str = "SELECT 'character-set', default_character_set_name \
     FROM information_schema.schemata WHERE schema_name = DATABASE() \
    UNION ALL SELECT 'collation', default_collation_name \
     FROM information_schema.schemata WHERE schema_name = DATABASE()";

/// Asks a statement: the answer has a line for each row, and `separator` between two columns.
pub(in crate::job) type Ask<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a PostgreSQL database holds; nothing of what cannot be asked. Columns are separated by `|`.
pub(in crate::job) fn postgresql_census(ask: Ask<'_>) -> BTreeMap<String, u64> {
    let tables = format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class AS c \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'r' \
         AND c.relpersistence = 'p' AND c.reltuples < {MAX_ROWS} AND n.nspname !~ '^pg_' \
         AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend \
         WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid AND deptype = 'e') \
         ORDER BY 1 LIMIT {MAX_TABLES}"
    );
    let rows = |table: &str| format!("SELECT {{}}, count(*) FROM ONLY {table}");
    census(ask, POSTGRESQL, &tables, &rows, '|')
}

/// What a MariaDB or MySQL database holds; nothing of what cannot be asked. Columns are separated by
/// tabs.
pub(in crate::job) fn mariadb_census(ask: Ask<'_>) -> BTreeMap<String, u64> {
    let tables = format!(
        "SELECT CONCAT('`', REPLACE(table_name, '`', '``'), '`', \
         IF(table_type = 'SYSTEM VERSIONED', ' FOR SYSTEM_TIME ALL', '')) \
         FROM information_schema.tables WHERE table_schema = DATABASE() \
         AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         AND COALESCE(table_rows, 0) < {MAX_ROWS} ORDER BY table_name LIMIT {MAX_TABLES}"
    );
    let rows = |table: &str| format!("SELECT {{}}, COUNT(*) FROM {table}");
    census(ask, MARIADB, &tables, &rows, '\t')
}

fn census(
    ask: Ask<'_>,
    objects: &str,
    tables: &str,
    rows: &dyn Fn(&str) -> String,
    separator: char,
) -> BTreeMap<String, u64> {
    let mut found = counts(ask(objects), separator);
    let Some(tables) = ask(tables) else { return found };
    // A name with a line's end would be two.
    let odd = |name: &&str| {
        !name.contains('\\') && (name.ends_with(['`', '"', 'L']) || !name.contains(' '))
    };
    let tables: Vec<&str> = tables.lines().filter(odd).collect();
    let statements: Vec<String> = tables
        .iter()
        .enumerate()
        .map(|(number, table)| rows(table).replacen("{}", &number.to_string(), 1))
        .collect();
    if statements.is_empty() {
        return found;
    }
    let counted = counts(ask(&statements.join(" UNION ALL ")), separator);
    for (number, table) in tables.iter().enumerate() {
        if let Some(count) = counted.get(&number.to_string()) {
            found.insert(format!("{ROWS}{table}"), *count);
        }
    }
    found
}

fn counts(answer: Option<String>, separator: char) -> BTreeMap<String, u64> {
    let answer = answer.unwrap_or_default();
    let pair = |line: &str| {
        let (what, count) = line.rsplit_once(separator)?;
        Some((what.to_owned(), count.trim().parse().ok()?))
    };
    answer.lines().filter_map(pair).collect()
}

/// The rows of two columns.
pub(super) fn pairs(answer: &str, separator: char) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(separator)?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    answer.lines().filter_map(pair).collect()
}

/// How a restored database differs from what the server counted, in words. It may hold more objects:
/// servers of other versions make some of their own.
pub(in crate::job) fn differences(
    expected: &BTreeMap<String, u64>,
    found: &BTreeMap<String, u64>,
) -> Vec<String> {
    let differs = |what: &str, expected: u64, found: u64| match what.starts_with(ROWS) {
        true => expected != found,
        false => found < expected,
    };
    let compare = |(what, expected): (&String, &u64)| {
        let found = found.get(what).copied().unwrap_or(0);
        differs(what, *expected, found)
            .then(|| format!("the server had {expected} {what}, the restored database has {found}"))
    };
    expected.iter().filter_map(compare).collect()
}
