//! `vwatch completions`: what a shell completes behind `vwatch`.

use clap::{Args, Command, ValueEnum};
use clap_complete::{generate, shells};

use super::failure::Failure;
use super::output::print;

/// The program that is completed.
const NAME: &str = "vwatch";

/// Print what a shell needs to complete commands, options and names
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(vwatch completions bash)        in this shell
  vwatch completions bash > /usr/share/bash-completion/completions/vwatch
  vwatch completions zsh > \"${fpath[1]}/_vwatch\"
  vwatch completions fish > ~/.config/fish/completions/vwatch.fish

Names are completed too, one level at a time (as 'vwatch ls --delimiter /'): the shell asks the node of the command \
line or of the variables, and waits half a second at most. It offers up to 200 names, without those that it would have \
to quote.")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs it. `command` is the whole tree of commands.
pub(super) fn run(args: &Completions, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    // not by the type of the crate for all shells, which would bring the code of those that are not offered
    let (command, script_to) = (&mut command, &mut script);
    match args.shell {
        Shell::Bash => generate(shells::Bash, command, NAME, script_to),
        Shell::Zsh => generate(shells::Zsh, command, NAME, script_to),
        Shell::Fish => generate(shells::Fish, command, NAME, script_to),
    }
    let script = String::from_utf8_lossy(&script);
    print(with_names(args.shell, &script).as_bytes())
}

/// The script of the crate, which knows commands and options, with the completion of names.
fn with_names(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        // the file is the function _vwatch when it is loaded from a folder: that of the crate needs another name
        Shell::Zsh => script.replacen("\n_vwatch() {", &format!("\n{ZSH}\n_vwatch_plain() {{"), 1),
        Shell::Fish => format!("{script}{FISH}"),
    }
}

const BASH: &str = r#"
_vwatch_with_names() {
    COMPREPLY=()
    _vwatch "$@"
    [[ -n "$COMP_LINE" ]] || return 0
    local line="${COMP_LINE:0:COMP_POINT}" word="" name head found=()
    local -a words kept=()
    read -ra words <<< "$line"
    if [[ "$line" == *[[:space:]] ]]; then
        words+=("")
    else
        word="${words[${#words[@]}-1]}"
    fi
    while IFS= read -r name; do
        found+=("$name")
    done < <("${words[0]}" complete-names -- "${words[@]:1}" 2>/dev/null)
    [[ ${#found[@]} -gt 0 ]] || return 0
    # bash replaces only what is behind the last of these
    head="${word%"${word##*[:=]}"}"
    # without the placeholders of arguments, such as <NAME>
    for name in "${COMPREPLY[@]}"; do
        [[ "$name" == [\<\[]* ]] || kept+=("$name")
    done
    COMPREPLY=("${found[@]#"$head"}" "${kept[@]}")
    if [[ ${#found[@]} -eq 1 && "${found[0]}" == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _vwatch_with_names -o bashdefault -o default vwatch
"#;

const ZSH: &str = r#"_vwatch() {
    local -a found
    found=(${(f)"$(command ${(Q)words[1]} complete-names -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then
        compadd -S '' -- ${(M)found:#*/}
        compadd -- ${found:#*/}
        return 0
    fi
    _vwatch_plain "$@"
}
"#;

const FISH: &str = r#"
function __vwatch_names
    set -l words (commandline -opc)
    command $words[1] complete-names -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c vwatch -n "__fish_seen_subcommand_from get put del ls watch diff mirror history revert lock lease" -f -a "(__vwatch_names)"
"#;
