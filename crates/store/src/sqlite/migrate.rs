//! The schema and its forward steps: ordered SQL files, each applied once, in a transaction of its own.

use super::error;
use crate::shape::{Result, StoreError};
use rusqlite::{Connection, Error, TransactionBehavior};

/// A step of the schema. A released step never changes; a change is a new step at the end.
pub(super) struct Migration {
    pub name: &'static str,
    pub sql: &'static str,
}

/// All steps; the version of a schema is the number of steps applied.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "shapes", sql: include_str!("../../migrations/0001_shapes.sql") },
    Migration { name: "usage", sql: include_str!("../../migrations/0002_usage.sql") },
];

/// In the header of the file, so that nobody's other database is taken for ours: "VRPL".
const APPLICATION_ID: i32 = 0x5652_504c;

/// Brings the database to the newest schema.
///
/// # Errors
/// [`StoreError::Newer`] if it has steps that are not known here, [`StoreError::Broken`] if it is not a database of ours.
pub(super) fn run(connection: &mut Connection, migrations: &[Migration]) -> Result<()> {
    let failed = |e| error::from("updating the schema", e);
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let found = found(connection).map_err(failed)?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, migration) in (1u32..).zip(migrations).skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        apply(connection, version, migration).map_err(failed)?;
    }
    Ok(())
}

/// The version of the schema; 0 for an empty file.
fn found(connection: &Connection) -> rusqlite::Result<u32> {
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if tables == 0 {
        return Ok(0);
    }
    let id: i32 = connection.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    if id != APPLICATION_ID {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        return Err(Error::SqliteFailure(code, Some("the file is a database of another program".into())));
    }
    connection.query_row("SELECT coalesce(max(version), 0) FROM migration", [], |r| r.get(0))
}

fn apply(connection: &mut Connection, version: u32, migration: &Migration) -> rusqlite::Result<()> {
    let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version == 1 {
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.execute_batch("CREATE TABLE migration (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL) STRICT")?;
    }
    step.execute_batch(migration.sql)?;
    step.execute("INSERT INTO migration (version, name) VALUES (?1, ?2)", (version, migration.name))?;
    step.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[Migration] = &[
        Migration { name: "one", sql: "CREATE TABLE t (a INTEGER) STRICT; INSERT INTO t VALUES (1)" },
        Migration { name: "two", sql: "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 7" },
    ];

    fn names(c: &Connection) -> Vec<String> {
        let mut s = c.prepare("SELECT name FROM migration ORDER BY version").unwrap();
        s.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn each_step_is_applied_once_and_keeps_the_data() {
        let mut c = Connection::open_in_memory().unwrap();
        run(&mut c, &TWO[..1]).unwrap();
        run(&mut c, &TWO[..1]).unwrap();
        run(&mut c, TWO).unwrap();
        run(&mut c, TWO).unwrap();
        assert_eq!(names(&c), ["one", "two"]);
        let row: (i64, i64) = c.query_row("SELECT a, b FROM t", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(row, (1, 7));
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_and_can_be_tried_again() {
        let mut c = Connection::open_in_memory().unwrap();
        run(&mut c, &TWO[..1]).unwrap();
        let bad = [
            Migration { name: "one", sql: "" },
            Migration { name: "bad", sql: "CREATE TABLE u (a INTEGER) STRICT; INSERT INTO nowhere VALUES (1)" },
        ];
        assert!(run(&mut c, &bad).is_err());
        assert_eq!(names(&c), ["one"]);
        run(&mut c, TWO).unwrap();
        assert_eq!(names(&c), ["one", "two"]);
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_versions() {
        let mut c = Connection::open_in_memory().unwrap();
        run(&mut c, TWO).unwrap();
        let error = run(&mut c, &TWO[..1]).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1 }), "{error}");
    }

    #[test]
    fn a_database_of_another_program_is_left_alone() {
        let mut c = Connection::open_in_memory().unwrap();
        c.execute_batch("CREATE TABLE theirs (a INTEGER)").unwrap();
        assert!(matches!(run(&mut c, TWO), Err(StoreError::Broken { .. })));
        let tables: u32 = c.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
        assert_eq!(tables, 1);
    }
}
