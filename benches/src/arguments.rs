//! The command line of the harness: `--name value` pairs, each known by name and none given twice in silence.

use std::str::FromStr;

/// The words of the command line that nobody has asked for yet.
#[derive(Debug)]
pub struct Arguments {
    usage: &'static str,
    pairs: Vec<(String, String)>,
}

impl Arguments {
    /// The arguments of this process.
    ///
    /// # Errors
    /// Names the word that has no value, with the usage.
    pub fn read(usage: &'static str) -> Result<Self, String> {
        let mut words = std::env::args().skip(1);
        let mut pairs = Vec::new();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name}: a value is missing\n{usage}"))?;
            pairs.push((name, value));
        }
        Ok(Self { usage, pairs })
    }

    /// The value of `name`, the last one if it was given more than once, or `default`.
    ///
    /// # Errors
    /// Names the value that cannot be read, with the usage.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        let mut value = None;
        self.pairs.retain(|(given, word)| {
            if given == name {
                value = Some(word.clone());
            }
            given != name
        });
        match value {
            None => Ok(default),
            Some(word) => {
                word.parse().map_err(|_| format!("{name} {word}: this cannot be read\n{}", self.usage))
            }
        }
    }

    /// All have been asked for.
    ///
    /// # Errors
    /// Names one that is not known, with the usage.
    pub fn finish(self) -> Result<(), String> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("{name}: not known\n{}", self.usage)),
        }
    }
}
