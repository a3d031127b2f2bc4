//! `vwatch tls init`: an authority and certificates to try TLS with.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::failure::Failure;
use super::output::print;

/// For how many days the certificates are valid: no client accepts those of a server for much longer.
const CERTIFICATE_DAYS: i64 = 365;

/// The same of the authority.
const AUTHORITY_DAYS: i64 = 3650;

/// The names of a node on this machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Make an authority and certificates, to try TLS
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch tls init certs
  vwatch --tls-cert certs/server-cert.pem --tls-key certs/server-key.pem
  vwatch get NAME --client-url https://127.0.0.1:8080 --ca certs/ca.pem
  vwatch tls init certs --name node-1.example --name 10.0.0.5

It writes ca.pem, ca-key.pem, server-cert.pem, server-key.pem, client-cert.pem and client-key.pem, and overwrites \
nothing. The certificates are valid for a year. For production use the authority that you have: a program that can read \
ca-key.pem can make certificates for every client that trusts ca.pem.")]
struct Init {
    /// The directory; it is made if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A host name or an address of the nodes; repeatable [default: localhost, 127.0.0.1 and ::1]
    #[arg(long = "name", value_name = "NAME", action = clap::ArgAction::Append)]
    names: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    Init(Init),
}

/// The command.
pub(super) fn command(with_values: fn(Command) -> Command) -> Command {
    let command = Command::new("tls").about("Certificates to try TLS with").subcommand_required(true);
    Action::augment_subcommands(command)
        .mut_subcommands(|command| with_values(command.args_override_self(true)))
}

/// Runs it.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match Action::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))? {
        Action::Init(init) => init.run(),
    }
}

impl Init {
    fn run(&self) -> Result<(), Failure> {
        let names: Vec<String> = match self.names.is_empty() {
            true => LOCAL.map(str::to_owned).to_vec(),
            false => self.names.clone(),
        };
        if let Some(bad) = names.iter().find(|name| !is_name(name)) {
            return Err(Failure::Usage(format!(
                "bad --name: neither a host name nor an address: got {bad:?}: write one such as node-1.example or 10.0.0.5"
            )));
        }
        let files = files(&names).map_err(|why| Failure::Failed(format!("no certificate: {why}")))?;
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| self.directory.join(name)).collect();
        if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
            return Err(Failure::Failed(format!(
                "{} is there already: it is not overwritten: name another directory, or remove it",
                path.display()
            )));
        }
        let unwritable = |path: &Path, error: std::io::Error| {
            Failure::Failed(format!("cannot write {}: {error}", path.display()))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| unwritable(&self.directory, error))?;
        for (path, (name, text)) in paths.iter().zip(&files) {
            let mode = if name.ends_with("-key.pem") { 0o600 } else { 0o644 };
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|error| unwritable(path, error))?;
        }
        let lines: Vec<String> = paths.iter().map(|path| format!("{}\n", path.display())).collect();
        print(lines.concat().as_bytes())
    }
}

fn is_name(name: &str) -> bool {
    let is_host = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'*' | b'_'));
    is_host || name.parse::<std::net::IpAddr>().is_ok()
}

/// The files and their texts.
fn files(names: &[String]) -> Result<Vec<(&'static str, String)>, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let ca_key = KeyPair::generate().map_err(failed)?;
    // two with one name would be taken for each other, and their signatures for forged ones
    let number = getrandom::u64().map_err(|error| error.to_string())?;
    let mut ca = params(&[], &format!("vwatch test authority {number:016x}"), AUTHORITY_DAYS)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key).map_err(failed)?;
    let issuer = Issuer::new(ca, &ca_key);
    let signed = |names: &[String], common: &str, usages: &[ExtendedKeyUsagePurpose]| {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(names, common, CERTIFICATE_DAYS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok::<_, String>((certificate.pem(), key.serialize_pem()))
    };
    // a node shows its certificate to other nodes too, as their client
    let (server, server_key) = signed(
        names,
        "vwatch test server",
        &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    )?;
    let (client, client_key) = signed(&[], "vwatch test client", &[ExtendedKeyUsagePurpose::ClientAuth])?;
    Ok(vec![
        ("ca.pem", ca_certificate.pem()),
        ("ca-key.pem", ca_key.serialize_pem()),
        ("server-cert.pem", server),
        ("server-key.pem", server_key),
        ("client-cert.pem", client),
        ("client-key.pem", client_key),
    ])
}

/// A certificate with these names, valid from yesterday on: clocks differ.
fn params(names: &[String], common: &str, days: i64) -> Result<CertificateParams, String> {
    let day = |from_now: i64| {
        let date = Timestamp::now().to_zoned(TimeZone::UTC).date().saturating_add(from_now.days());
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = day(-1);
    params.not_after = day(days);
    Ok(params)
}
