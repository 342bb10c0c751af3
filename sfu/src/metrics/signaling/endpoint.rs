//! The endpoints of a host's HTTP side: a closed table, made at start.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::counters::Hist;

use super::labels::{Method, is_value};
use super::{HTTP_DURATION, SignalingError};

/// One value of the label `endpoint`: the routes that count under it, and what they answer.
///
/// ```
/// use sluicegate::signaling::{Endpoint, Method};
/// let socket = Endpoint::new("ws").route("/ws/{room}").answers(Method::Get, &[101, 400, 401, 503]);
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    name: &'static str,
    routes: Vec<&'static str>,
    answers: Vec<(Method, &'static [u16])>,
}

impl Endpoint {
    /// The label's value. It need not be an address: several routes may share it.
    pub fn new(name: &'static str) -> Endpoint {
        Endpoint { name, routes: Vec::new(), answers: Vec::new() }
    }

    /// A route that counts here, as the router writes it: `/ws/{room}`. Never an address that was asked for.
    #[must_use]
    pub fn route(mut self, template: &'static str) -> Endpoint {
        self.routes.push(template);
        self
    }

    /// A method that is served here, and the status codes it answers with. These have series from the first scrape on,
    /// at 0; another code gets one when it comes.
    #[must_use]
    pub fn answers(mut self, method: Method, codes: &'static [u16]) -> Endpoint {
        self.answers.push((method, codes));
        self
    }
}

/// Which series a request belongs to. What no endpoint declares is the last one's, `other`.
#[derive(Debug)]
pub struct Endpoints {
    /// By route.
    names: HashMap<&'static str, &'static str>,
    doors: HashMap<(&'static str, Method), usize>,
    /// Endpoint and method of each.
    labels: Vec<(&'static str, Method)>,
}

/// What one method of one endpoint has answered.
#[derive(Clone, Default, Debug)]
pub struct Answers {
    pub took: Hist<{ HTTP_DURATION.len() }>,
    /// By status code; 0 is one that HTTP does not know.
    pub codes: BTreeMap<u16, u64>,
}

impl Answers {
    pub fn record(&mut self, code: u16, took: Duration) {
        self.took.record(&HTTP_DURATION, took);
        *self.codes.entry(if is_code(code) { code } else { 0 }).or_default() += 1;
    }
}

impl Endpoints {
    /// Checks the table. Returns it with the counts to begin with.
    pub fn new(
        declared: impl IntoIterator<Item = Endpoint>,
    ) -> Result<(Endpoints, Vec<Answers>), SignalingError> {
        let mut endpoints = Endpoints { names: HashMap::new(), doors: HashMap::new(), labels: Vec::new() };
        let mut counts = Vec::new();
        for Endpoint { name, routes, answers } in declared {
            if !is_value(name) || name == OTHER {
                return Err(SignalingError::Endpoint { name });
            }
            for route in routes {
                if endpoints.names.insert(route, name).is_some() {
                    return Err(SignalingError::Twice { what: route });
                }
            }
            for (method, codes) in answers {
                if let Some(code) = codes.iter().copied().find(|code| !is_code(*code)) {
                    return Err(SignalingError::Code { code, endpoint: name });
                }
                if endpoints.doors.insert((name, method), counts.len()).is_some() {
                    return Err(SignalingError::Twice { what: name });
                }
                endpoints.labels.push((name, method));
                counts.push(answering(codes));
            }
        }
        if counts.len() > MAX_DOORS {
            return Err(SignalingError::TooMany { doors: counts.len() });
        }
        endpoints.labels.push((OTHER, Method::Other));
        counts.push(answering(&[404, 405]));
        Ok((endpoints, counts))
    }

    /// Where a request counts.
    pub fn door(&self, method: Method, route: Option<&str>) -> usize {
        let name = route.and_then(|route| self.names.get(route));
        let door = name.and_then(|name| self.doors.get(&(*name, method)));
        door.copied().unwrap_or(self.labels.len() - 1)
    }

    /// Values of `endpoint` and `method`, in the order of the counts.
    pub fn labels(&self) -> &[(&'static str, Method)] {
        &self.labels
    }
}

fn answering(codes: &[u16]) -> Answers {
    Answers { codes: codes.iter().map(|code| (*code, 0)).collect(), ..Answers::default() }
}

/// RFC 9110 §15.
fn is_code(code: u16) -> bool {
    (100..600).contains(&code)
}

const OTHER: &str = "other";

/// Methods of endpoints: eight series each, and one for each code.
pub const MAX_DOORS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_declared_counts_as_other() {
        let table = [
            Endpoint::new("page").route("/").route("/style.css").answers(Method::Get, &[200]),
            Endpoint::new("whip").route("/whip/{room}").answers(Method::Post, &[201, 400]),
        ];
        let (endpoints, counts) = Endpoints::new(table).expect("a good table");
        let door = |method, route| endpoints.labels()[endpoints.door(method, route)];
        assert_eq!(door(Method::Get, Some("/style.css")), ("page", Method::Get));
        assert_eq!(door(Method::Post, Some("/whip/{room}")), ("whip", Method::Post));
        assert_eq!(door(Method::Get, Some("/whip/{room}")), ("other", Method::Other));
        assert_eq!(door(Method::Post, Some("/whip/standup")), ("other", Method::Other));
        assert_eq!(door(Method::Get, None), ("other", Method::Other));
        assert_eq!(counts.len(), 3);
    }

    #[test]
    fn a_table_that_will_not_do_says_why() {
        let get = |name| Endpoint::new(name).answers(Method::Get, &[200]);
        let error = |table: Vec<Endpoint>| Endpoints::new(table).map(|_| ()).unwrap_err();
        assert_eq!(error(vec![get("/ws")]), SignalingError::Endpoint { name: "/ws" });
        assert_eq!(error(vec![get("other")]), SignalingError::Endpoint { name: "other" });
        assert_eq!(error(vec![get("a"), get("a")]), SignalingError::Twice { what: "a" });
        let twice = vec![get("a").route("/"), get("b").route("/")];
        assert_eq!(error(twice), SignalingError::Twice { what: "/" });
        let strange = Endpoint::new("a").answers(Method::Get, &[200, 99]);
        assert_eq!(error(vec![strange]), SignalingError::Code { code: 99, endpoint: "a" });
        let names: Vec<&'static str> = (0..=MAX_DOORS).map(|n| &*format!("e{n}").leak()).collect();
        let many = names.into_iter().map(get).collect();
        assert_eq!(error(many), SignalingError::TooMany { doors: MAX_DOORS + 1 });
    }
}
