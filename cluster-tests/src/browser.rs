//! A real Chromium, driven by WebDriver: the small part of the protocol that tests need.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::http::{Connection, Request};
use crate::node::free_addresses;
use crate::parts::{Part, find};
use crate::wait::LIMIT;

/// A browser with one window. It ends when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    profile: PathBuf,
    _part: Part,
}

/// Colours that a system prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Dark text on light ground.
    Light,
    /// Light text on dark ground.
    Dark,
}

impl Browser {
    /// Starts one. `None` where there is no Chromium or no driver of it, which is printed.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        const HOW: &str = "apt-get install chromium chromium-driver";
        let (chromium, program) = (find("chromium", HOW)?, find("chromedriver", HOW)?);
        // the driver listens on 127.0.0.1 only
        let driver = SocketAddr::from(([127, 0, 0, 1], free_addresses().0.port()));
        let mut command = Command::new(program);
        command.arg(format!("--port={}", driver.port()));
        let part = Part::start(command, driver);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("vwatch-browser-{}-{count}", std::process::id()));
        let mut browser = Self { driver, session: String::new(), profile, _part: part };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", browser.profile.display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let begun = browser.ask("POST", "/session", &wanted);
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    /// Opens an address.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// Runs a function body in the page, with arguments, and returns its value.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};"), &[])
    }

    /// The text that the page shows.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> String {
        self.value("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression of the page is true.
    ///
    /// # Panics
    /// If it does not become so within [`LIMIT`].
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        let holds = format!("try {{ return Boolean({expression}); }} catch {{ return false; }}");
        let is_so = || self.run(&holds, &[]) == Value::Bool(true);
        let shown = || format!("{expression}, and the page shows: {}", self.text());
        let deadline = std::time::Instant::now() + LIMIT;
        while !is_so() {
            assert!(std::time::Instant::now() < deadline, "waited in vain for {}", shown());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until the page shows a text.
    #[track_caller]
    pub fn wait_text(&self, text: &str) {
        self.wait(&format!("document.body.innerText.includes({})", json!(text)));
    }

    /// Clicks on the first element of a selector, where it is shown.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.wait(&format!("document.querySelector({}) !== null", json!(selector)));
        // in the middle, where nothing that stays in place covers it
        let to_it = "document.querySelector(arguments[0]).scrollIntoView({ block: 'center' });";
        self.run(to_it, &[selector.into()]);
        let found = self.command("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|element| element.values().next()?.as_str()).expect("an element");
        self.command(&format!("/element/{id}/click"), &json!({}));
    }

    /// Presses keys, one after the other: a character each, or the names `Tab`, `Enter`, `Escape` and arrows.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        let mut actions = Vec::new();
        for key in keys {
            let (shift, key) = match key.strip_prefix("Shift+") {
                Some(key) => (true, key),
                None => (false, *key),
            };
            let value = match key {
                "Tab" => "\u{e004}",
                "Enter" => "\u{e007}",
                "Escape" => "\u{e00c}",
                "Space" => " ",
                "End" => "\u{e010}",
                "Home" => "\u{e011}",
                "Left" => "\u{e012}",
                "Up" => "\u{e013}",
                "Right" => "\u{e014}",
                "Down" => "\u{e015}",
                key => key,
            };
            if shift {
                actions.push(json!({"type": "keyDown", "value": "\u{e008}"}));
            }
            actions.push(json!({"type": "keyDown", "value": value}));
            actions.push(json!({"type": "keyUp", "value": value}));
            if shift {
                actions.push(json!({"type": "keyUp", "value": "\u{e008}"}));
            }
        }
        self.command("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// Types a text into the element that has the focus.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        let keys: Vec<String> = text.chars().map(String::from).collect();
        self.press(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Has a screen of this size and these colours from now on. Below 600 pixels it is that of a phone.
    #[track_caller]
    pub fn screen(&self, width: u32, height: u32, colours: Colours) {
        let is_phone = width < 600;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}),
        );
        self.devtools("Emulation.setTouchEmulationEnabled", &json!({"enabled": is_phone}));
        let colours = if colours == Colours::Dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Writes a picture of what is shown.
    ///
    /// # Panics
    /// If it cannot be written.
    #[track_caller]
    pub fn picture(&self, path: &Path) {
        let image = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        let base64 = image["data"].as_str().expect("a picture");
        std::fs::write(path, decode(base64)).expect("a file");
    }

    /// What the console of the page has shown that is wrong since the last call: errors, and violations of the policy
    /// of the page. An answer that is no success is no fault of the page.
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().cloned().unwrap_or_default();
        let wrong = lines.iter().filter(|line| {
            let is_network = line["source"] == "network";
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("Content Security Policy") || line["level"] == "SEVERE" && !is_network
        });
        wrong.map(|line| line["message"].to_string()).collect()
    }

    /// The hosts that the browser has sent requests to since the last call.
    #[track_caller]
    pub fn hosts(&self) -> BTreeSet<String> {
        let log = self.command("/se/log", &json!({"type": "performance"}));
        let lines = log.as_array().cloned().unwrap_or_default();
        let events = lines.iter().filter_map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            (event["message"]["method"] == "Network.requestWillBeSent").then_some(())?;
            let url = event["message"]["params"]["request"]["url"].as_str()?.to_owned();
            let (scheme, rest) = url.split_once("://")?;
            scheme.starts_with("http").then(|| rest.split('/').next().unwrap_or_default().to_owned())
        });
        events.collect()
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::new(method, path)
            .host(&self.driver.to_string())
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = Connection::open(self.driver).ask(&request);
        let value = answer.json()["value"].clone();
        assert_eq!(answer.status, 200, "{method} {path} {body}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // the driver ends its browser with the session
        if !self.session.is_empty()
            && let Ok(mut connection) = Connection::try_open(self.driver)
        {
            let path = format!("/session/{}", self.session);
            let request = Request::new("DELETE", &path).host(&self.driver.to_string());
            let _ = connection.try_send_bytes(&request.bytes());
            let _ = connection.try_answer(LIMIT);
        }
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// The bytes of base64.
fn decode(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in
            [("", &b""[..]), ("aA==", b"h"), ("aGk=", b"hi"), ("aGkh", b"hi!"), ("/+8=", &[255, 239])]
        {
            assert_eq!(decode(text), bytes, "{text}");
        }
    }
}
