//! Reads the paths that Rust code names: `use` trees expanded, and all others that begin with
//! `crate`, `super`, `self` or a crate's name.
//!
//! Comments, literals and tests (`mod tests { … }`) are left out.

use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Other(char),
}

/// Full paths, as `crate::plan::Plan` or `limosa_record::row`, that code in this module names.
pub(crate) fn paths(text: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let tokens = tokens(text);
    let mut found = BTreeSet::new();
    let mut reader = Reader { tokens: &tokens, at: 0 };
    // The modules that are open: how deep their braces are, and the path before them.
    let (mut depth, mut open, mut here) =
        (0_usize, Vec::<(usize, Vec<String>)>::new(), module.to_vec());
    while let Some(token) = reader.next() {
        match token {
            Token::Other('{') => depth += 1,
            Token::Other('}') => {
                depth = depth.saturating_sub(1);
                if open.last().is_some_and(|(at, _)| *at == depth) {
                    here = open.pop().expect("just seen").1;
                }
            }
            Token::Word(word) if word == "mod" => {
                if let [Token::Word(name), Token::Other('{'), ..] = reader.rest() {
                    if name == "tests" {
                        reader.skip_braces();
                    } else {
                        open.push((depth, here.clone()));
                        here.push(name.clone());
                    }
                }
            }
            Token::Word(word) if word == "use" => {
                reader.tree(&[], &mut |path| found.extend(full(path, &here)));
            }
            Token::Word(word) => {
                let mut path = vec![word.clone()];
                while let [Token::Colons, Token::Word(next), ..] = reader.rest() {
                    path.push(next.clone());
                    reader.at += 2;
                }
                if path.len() > 1 {
                    found.extend(full(&path, &here));
                }
            }
            Token::Colons | Token::Other(_) => {}
        }
    }
    found
}

/// From the root of its crate, or from another crate's.
fn full(path: &[String], here: &[String]) -> Option<Vec<String>> {
    let root = || vec!["crate".to_owned()];
    let first = path.first()?.as_str();
    match first {
        "crate" => Some(path.to_vec()),
        "self" => Some([root(), here.to_vec(), path[1..].to_vec()].concat()),
        "super" => {
            let ups = path.iter().take_while(|p| *p == "super").count();
            let kept = here.len().checked_sub(ups)?;
            Some([root(), here[..kept].to_vec(), path[ups..].to_vec()].concat())
        }
        _ => first.starts_with("limosa").then(|| path.to_vec()),
    }
}

struct Reader<'t> {
    tokens: &'t [Token],
    at: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<&'t Token> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    fn rest(&self) -> &'t [Token] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    fn skip_braces(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.next() {
            match token {
                Token::Other('{') => depth += 1,
                Token::Other('}') => depth -= 1,
                _ => {}
            }
            if depth == 0 && *token == Token::Other('}') {
                return;
            }
        }
    }

    /// A `use` tree behind this prefix, up to a comma, a brace or the semicolon.
    fn tree(&mut self, prefix: &[String], found: &mut impl FnMut(&[String])) {
        let mut path = prefix.to_vec();
        loop {
            match self.rest() {
                [Token::Word(word), Token::Word(_), ..] if word == "as" => self.at += 2,
                [Token::Word(word), ..] => {
                    path.push(word.clone());
                    self.at += 1;
                }
                [Token::Other('*'), ..] => {
                    path.push("*".into());
                    self.at += 1;
                }
                [Token::Colons, ..] => self.at += 1,
                [Token::Other('{'), ..] => {
                    self.at += 1;
                    loop {
                        match self.rest() {
                            [Token::Other('}'), ..] => {
                                self.at += 1;
                                return;
                            }
                            [Token::Other(','), ..] => self.at += 1,
                            [] => return,
                            _ => self.tree(&path, found),
                        }
                    }
                }
                _ => {
                    found(&path);
                    // What is no part of a tree is not waited for.
                    if !matches!(self.rest(), [Token::Other(',' | '}'), ..]) {
                        self.at += 1;
                    }
                    return;
                }
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let all: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < all.len() {
        let next = all.get(at + 1).copied();
        match all[at] {
            '/' if next == Some('/') => at = line_end(&all, at),
            '/' if next == Some('*') => at = comment_end(&all, at),
            '"' => at = text_end(&all, at + 1),
            'r' | 'b' if raw_hashes(&all, at).is_some() => at = raw_end(&all, at),
            '\'' => at = quote_end(&all, at),
            ':' if next == Some(':') => {
                tokens.push(Token::Colons);
                at += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let end = (at..all.len()).find(|i| !all[*i].is_alphanumeric() && all[*i] != '_');
                let end = end.unwrap_or(all.len());
                tokens.push(Token::Word(all[at..end].iter().collect()));
                at = end;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Other(c));
                }
                at += 1;
            }
        }
    }
    tokens
}

fn line_end(all: &[char], at: usize) -> usize {
    (at..all.len()).find(|i| all[*i] == '\n').unwrap_or(all.len())
}

/// Comments may be nested.
fn comment_end(all: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < all.len() {
        match (all[at], all[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    all.len()
}

fn text_end(all: &[char], mut at: usize) -> usize {
    while at < all.len() && all[at] != '"' {
        at += if all[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The number of hashes of a raw literal that begins here, as `r#"` or `br"`.
fn raw_hashes(all: &[char], at: usize) -> Option<(usize, usize)> {
    if at > 0 && (all[at - 1].is_alphanumeric() || all[at - 1] == '_') {
        return None;
    }
    let start = if all[at] == 'b' { at + 1 } else { at };
    if all.get(start) != Some(&'r') {
        return None;
    }
    let hashes = all[start + 1..].iter().take_while(|c| **c == '#').count();
    (all.get(start + 1 + hashes) == Some(&'"')).then_some((start + 2 + hashes, hashes))
}

fn raw_end(all: &[char], at: usize) -> usize {
    let Some((start, hashes)) = raw_hashes(all, at) else { return at + 1 };
    let ends = |i: &usize| {
        all[*i] == '"' && all[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (start..all.len()).find(ends).map_or(all.len(), |i| i + 1 + hashes)
}

/// A character or a lifetime.
fn quote_end(all: &[char], at: usize) -> usize {
    match (all.get(at + 1), all.get(at + 2)) {
        (Some('\\'), _) => (at + 3..all.len()).find(|i| all[*i] == '\'').unwrap_or(all.len()) + 1,
        (_, Some('\'')) => at + 3,
        _ => at + 1,
    }
}
