//! No question that the product asks of its database reads a whole table: held against the planners of both databases,
//! over every statement that stands in the sources, so that a new one is looked at by itself.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::base::{Base, on_both_databases};

on_both_databases!(no_statement_reads_a_whole_table);

/// Statements that may, by how they begin, and why.
const MAY: &[(&str, &str)] = &[
    ("SELECT COUNT(*) FROM trunks", "`tandem check` counts, when its operator asks"),
    ("SELECT COUNT(*) FROM numbers", "the same"),
    ("SELECT * FROM api_keys ORDER BY", "`tandem key list` lists every key, when its operator asks"),
    ("SELECT id FROM api_keys LIMIT 1", "the first row will do"),
    ("SELECT id FROM accounts WHERE balance_millicents", "an index holds those alone"),
    ("SELECT account_id FROM audit_log GROUP BY", "upkeep, once in a while, over an index"),
    ("SELECT account_id FROM idempotency_keys GROUP BY", "the same"),
    ("DELETE FROM webhook_deliveries WHERE id IN", "upkeep, so many rows in the order of an index"),
];

/// Every statement that stands whole in a source file of the server.
fn statements(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            statements(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let literals = literals(text).into_iter();
            found.extend(literals.filter(|text| {
                ["SELECT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb))
                    && !text.contains('{')
            }));
        }
    }
}

/// The texts between quotation marks, on lines of code.
fn literals(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("'\"'", "");
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some((_, after)) = rest.split_once('"') {
        let mut literal = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match characters.next() {
                    Some((at, '\n')) => {
                        let next = after[at + 1..].trim_start();
                        while characters.as_str().len() > next.len() {
                            characters.next();
                        }
                    }
                    Some((_, escaped)) => literal.push(escaped),
                    None => break,
                },
                _ => literal.push(character),
            }
        }
        found.push(literal);
        rest = &after[end..];
    }
    found
}

/// The statement as it is asked: with the list, and what comes behind it, where one is to follow.
fn completed(statement: &str) -> String {
    let statement = statement.trim();
    match statement.ends_with(" IN") {
        true if statement.contains("FROM numbers WHERE") => {
            format!("{statement} ($1, $2) AND deleted_at IS NULL")
        }
        true if statement.contains("batch_id, status, COUNT(*)") => {
            format!("{statement} ($1, $2) GROUP BY batch_id, status")
        }
        true => format!("{statement} ($1, $2)"),
        false => statement.to_owned(),
    }
}

fn parameters(statement: &str) -> usize {
    (1..40).take_while(|number| statement.contains(&format!("${number}"))).count()
}

/// What SQLite would read whole.
async fn whole_reads_of_sqlite(connection: &mut sqlx::AnyConnection, statement: &str) -> Vec<String> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows = sqlx::query(explain).fetch_all(connection).await.unwrap();
    let steps = rows.iter().map(|row| row.get::<String, _>("detail"));
    steps.filter(|step| step.starts_with("SCAN ") && step != "SCAN CONSTANT ROW").collect()
}

/// What PostgreSQL would read whole though it was asked to avoid that.
async fn whole_reads_of_postgres(connection: &mut sqlx::AnyConnection, statement: &str) -> Vec<String> {
    let ask = async |connection: &mut sqlx::AnyConnection, text: String| {
        sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await.unwrap()
    };
    ask(connection, format!("PREPARE asked AS {statement}")).await;
    let nothing = vec!["NULL"; parameters(statement)].join(", ");
    let call = if nothing.is_empty() { "asked".to_owned() } else { format!("asked({nothing})") };
    let rows = ask(connection, format!("EXPLAIN (COSTS OFF) EXECUTE {call}")).await;
    ask(connection, "DEALLOCATE asked".to_owned()).await;
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let is_node = |line: &String| ["->", "InitPlan", "SubPlan"].iter().any(|mark| line.contains(mark));
    let mut found = Vec::new();
    for (at, line) in plan.iter().enumerate() {
        let details = plan[at + 1..].iter().take_while(|line| !is_node(line));
        let is_index = line.contains("Index Scan") || line.contains("Index Only Scan");
        let has_condition = details.into_iter().any(|line| line.contains("Index Cond:"));
        if line.contains("Seq Scan") || (is_index && !has_condition) {
            found.push(line.trim().to_owned());
        }
    }
    found
}

async fn no_statement_reads_a_whole_table(base: Base) {
    let store = base.open().await;
    let mut statements_found = Vec::new();
    statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut statements_found);
    let is_sqlite = base.url.starts_with("sqlite:");
    let mut connection = sqlx::AnyConnection::connect(&base.url).await.unwrap();
    if !is_sqlite {
        for setting in ["SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan"] {
            sqlx::query(setting).execute(&mut connection).await.unwrap();
        }
    }
    let (mut seen, mut faults) = (0, Vec::new());
    for statement in &statements_found {
        let is_whole = statement.contains(" FROM ") || statement.starts_with("UPDATE ");
        if !is_whole || MAY.iter().any(|(begin, _)| statement.starts_with(begin)) {
            continue;
        }
        seen += 1;
        let asked = completed(statement);
        let reads = match is_sqlite {
            true => whole_reads_of_sqlite(&mut connection, &asked).await,
            false => whole_reads_of_postgres(&mut connection, &asked).await,
        };
        if !reads.is_empty() {
            faults.push(format!("{asked}\n    {reads:?}"));
        }
    }
    assert!(seen > 100, "only {seen} statements were found");
    assert!(faults.is_empty(), "these read whole tables:\n{}", faults.join("\n"));
    store.close().await;
}
