//! The S-expressions that SimSpark sends: atoms and parentheses, and nothing else.
//!
//! They differ from a Lisp's: a team may shout `'`, `;` or `#`, which a Lisp's reader would take for syntax, and an
//! atom is a number only where a number is expected.

/// The depth to which lists may be nested. The deepest lists of a server have 4: `(See (P (head (pol …))))`.
const DEPTH_MAX: usize = 16;

/// An atom, or a list.
#[derive(Debug, PartialEq)]
pub(crate) enum Expr<'a> {
    Atom(&'a str),
    List(Vec<Expr<'a>>),
}

/// Parses all expressions of a message, which the caller has bounded.
pub(crate) fn parse(text: &str) -> Result<Vec<Expr<'_>>, String> {
    // The lists that are open, the outermost first; the first of all stands for the message.
    let mut open: Vec<Vec<Expr<'_>>> = vec![Vec::new()];
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        let at = text.len() - rest.len();
        match rest.as_bytes().first() {
            None => break,
            Some(b'(') if open.len() > DEPTH_MAX => {
                return Err(format!("more than {DEPTH_MAX} lists in one another, at byte {at}"));
            }
            Some(b'(') => {
                open.push(Vec::new());
                rest = &rest[1..];
            }
            Some(b')') => {
                let Some((list, outer)) = open.pop().and_then(|list| Some((list, open.last_mut()?))) else {
                    return Err(format!("a parenthesis that nothing opened, at byte {at}"));
                };
                outer.push(Expr::List(list));
                rest = &rest[1..];
            }
            Some(_) => {
                let ends = |letter: char| letter.is_ascii_whitespace() || letter == '(' || letter == ')';
                let (atom, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                if let Some(list) = open.last_mut() {
                    list.push(Expr::Atom(atom));
                }
                rest = after;
            }
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(all), true) => Ok(all),
        _ => Err("a parenthesis that nothing closes".to_owned()),
    }
}

/// The rest of the first list that begins with the name: `[n, …]` for `(NAME n …)`.
pub(crate) fn find<'e, 'a>(all: &'e [Expr<'a>], name: &str) -> Option<&'e [Expr<'a>]> {
    all.iter().find_map(|expr| expr.named(name))
}

impl<'a> Expr<'a> {
    /// The rest of this list, if it begins with the name.
    pub(crate) fn named(&self, name: &str) -> Option<&[Expr<'a>]> {
        match self {
            Self::List(list) => match list.split_first() {
                Some((Self::Atom(first), rest)) if *first == name => Some(rest),
                _ => None,
            },
            Self::Atom(_) => None,
        }
    }

    pub(crate) fn atom(&self) -> Option<&'a str> {
        match self {
            Self::Atom(atom) => Some(atom),
            Self::List(_) => None,
        }
    }

    /// The number, if it is one: the server's `nan` does not count.
    pub(crate) fn number(&self) -> Option<f32> {
        self.atom()?.parse().ok().filter(|number: &f32| number.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_nest() {
        let all = parse("(time (now 1.23))(HJ (n hj1) (ax -0.01))\n word").expect("well formed");
        assert_eq!(all.len(), 3);
        assert_eq!(find(find(&all, "time").expect("a time"), "now").expect("now")[0].number(), Some(1.23));
        let joint = find(&all, "HJ").expect("a joint");
        assert_eq!(find(joint, "n").expect("a name")[0].atom(), Some("hj1"));
        assert_eq!(find(joint, "ax").expect("an angle")[0].number(), Some(-0.01));
        assert_eq!(all[2].atom(), Some("word"));
        assert_eq!(find(&all, "word"), None);
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("()"), Ok(vec![Expr::List(Vec::new())]));
    }

    #[test]
    fn what_is_heard_is_no_syntax() {
        let all = parse("(hear 12.3 self \"';#|é)").expect("well formed");
        assert_eq!(find(&all, "hear").expect("words")[2].atom(), Some("\"';#|é"));
    }

    #[test]
    fn what_is_malformed_is_told() {
        for (text, message) in [
            ("(a", "a parenthesis that nothing closes"),
            ("(a))", "a parenthesis that nothing opened, at byte 3"),
            (")", "a parenthesis that nothing opened, at byte 0"),
        ] {
            assert_eq!(parse(text).err().as_deref(), Some(message), "{text}");
        }
        let deep = |depth: usize| format!("{}{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&deep(16)).is_ok());
        assert_eq!(parse(&deep(17)).err().as_deref(), Some("more than 16 lists in one another, at byte 16"));
        assert!(parse(&"(".repeat(1_000_000)).is_err());
    }

    #[test]
    fn numbers_are_finite() {
        for (text, number) in [("1", Some(1.0)), ("-2.5e-1", Some(-0.25)), ("nan", None), ("-inf", None), ("x", None)] {
            assert_eq!(Expr::Atom(text).number(), number, "{text}");
        }
        assert_eq!(Expr::List(Vec::new()).number(), None);
    }
}
