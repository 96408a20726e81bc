//! `.dockerignore`: which files of a context are not sent. Patterns as Docker reads them: of Go's filepath.Match, with `**`, the last
//! one that fits counts, `!` takes back.

/// The patterns of a file.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    parts: Vec<String>,
    takes_back: bool,
}

impl Ignored {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(|line| {
            let (takes_back, path) = line.strip_prefix('!').map_or((false, line), |path| (true, path.trim()));
            let parts: Vec<String> =
                path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
            (!parts.is_empty()).then_some(Pattern { parts, takes_back })
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether a path is left out: it, or a folder that it lies in.
    pub fn is_ignored(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |pattern: &Pattern| (1..=parts.len()).any(|len| matches(&pattern.parts, &parts[..len]));
        self.patterns.iter().rfind(|pattern| fits(pattern)).is_some_and(|pattern| !pattern.takes_back)
    }

    /// Whether something below an ignored folder may be taken back, so that it must be looked into.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.takes_back)
    }
}

fn matches(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|skipped| matches(rest, &path[skipped..])),
        Some((first, rest)) => path.split_first().is_some_and(|(name, deeper)| {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            matches_name(&first, &name) && matches(rest, deeper)
        }),
    }
}

fn matches_name(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skipped| matches_name(rest, &name[skipped..])),
        Some(('?', rest)) => name.split_first().is_some_and(|(_, deeper)| matches_name(rest, deeper)),
        Some(('[', rest)) => match (rest.iter().position(|char| *char == ']'), name.split_first()) {
            (Some(end), Some((char, deeper))) => {
                in_class(&rest[..end], *char) && matches_name(&rest[end + 1..], deeper)
            }
            _ => false,
        },
        Some(('\\', [char, rest @ ..])) | Some((char, rest)) => {
            name.split_first().is_some_and(|(found, deeper)| found == char && matches_name(rest, deeper))
        }
    }
}

fn in_class(class: &[char], char: char) -> bool {
    let (class, is_negated) = class.strip_prefix(&['^']).map_or((class, false), |class| (class, true));
    let mut rest = class;
    let mut found = false;
    while let Some((first, after)) = rest.split_first() {
        match after {
            ['-', last, deeper @ ..] => {
                found |= (*first..=*last).contains(&char);
                rest = deeper;
            }
            _ => {
                found |= *first == char;
                rest = after;
            }
        }
    }
    found != is_negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_docker_reads_them() {
        let ignored = Ignored::parse("# comment\n*.log\n/target\nnode_modules/\n**/*.tmp\n!keep.log\ndocs/[a-c]?.md\n");
        for path in ["a.log", "target/debug/x", "node_modules/x", "a/b/c.tmp", "c.tmp", "docs/b1.md"] {
            assert!(ignored.is_ignored(path), "{path}");
        }
        for path in ["keep.log", "sub/a.log", "a/target", "docs/d1.md", "docs/b.md", "Dockerfile"] {
            assert!(!ignored.is_ignored(path), "{path}");
        }
        let all = Ignored::parse("*\n!src\n");
        assert!(all.has_exceptions() && all.is_ignored("x") && !all.is_ignored("src/main.rs"));
    }
}
