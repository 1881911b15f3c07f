//! No question that the product asks of its database reads a whole table: held against the planners of both databases,
//! over every statement that stands in the sources, so that a new one is looked at by itself.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::base::{Base, on_both_databases};
use crate::dialled::crowd;

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
            let literals = literals(text);
            for (at, literal) in literals.iter().enumerate() {
                let is_question =
                    ["SELECT ", "UPDATE ", "DELETE "].iter().any(|verb| literal.starts_with(verb));
                if is_question && !literal.contains('{') {
                    found.push(completed(literal, literals.get(at + 1).map_or("", String::as_str)));
                }
            }
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

/// The statement as it is asked: with a list where one is to follow, and behind that what the next text of the source
/// says is to follow.
fn completed(statement: &str, next: &str) -> String {
    let statement = statement.trim();
    let is_rest = ["AND ", "GROUP BY ", "ORDER BY "].iter().any(|word| next.starts_with(word));
    match (statement.ends_with(" IN"), is_rest) {
        (true, true) => format!("{statement} ($1, $2) {next}"),
        (true, false) => format!("{statement} ($1, $2)"),
        (false, _) => statement.to_owned(),
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
        // An index that holds every row of an empty table costs as little as one that finds a row.
        crowd(&base.url, 1, 20_000).await;
        let settings =
            ["ANALYZE numbers", "SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan"];
        for setting in settings {
            sqlx::query(setting).execute(&mut connection).await.unwrap();
        }
    }
    let (mut seen, mut faults) = (0, Vec::new());
    for asked in &statements_found {
        let is_whole = asked.contains(" FROM ") || asked.starts_with("UPDATE ");
        if !is_whole || MAY.iter().any(|(begin, _)| asked.starts_with(begin)) {
            continue;
        }
        seen += 1;
        let reads = match is_sqlite {
            true => whole_reads_of_sqlite(&mut connection, asked).await,
            false => whole_reads_of_postgres(&mut connection, asked).await,
        };
        if !reads.is_empty() {
            faults.push(format!("{asked}\n    {reads:?}"));
        }
    }
    assert!(seen > 100, "only {seen} statements were found");
    assert!(faults.is_empty(), "these read whole tables:\n{}", faults.join("\n"));
    store.close().await;
}
