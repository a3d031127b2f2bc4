#!/bin/sh
# Watches one name at one or more vwatch nodes with curl, and prints a line for each change.
#
#   sh watch.sh NAME URL [URL ...]     for example: repo/artifact:latest http://127.0.0.1:8080
#
# NAME is percent-encoded, as in a URL.
set -u
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
name=$1
shift
poll=30
knows=no version= stamp= reported= failures=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM HUP

# the value of a header of the last answer
header() {
    awk -v want="$1:" 'tolower($1) == want { sub(/^[^:]*: */, ""); sub(/\r$/, ""); value = $0 } END { print value }' \
        "$folder/head"
}

# asks a node, and prints the status; 000 if there is no answer
request() {
    : > "$folder/head"
    set -- "$1/v1/versions/$name" --get --data "timeout=${poll}s"
    if [ "$knows" = yes ]; then
        set -- "$@" --data-urlencode "version=$version"
        [ -z "$stamp" ] || set -- "$@" --header "X-Last-Sync: $stamp"
    fi
    curl --silent --max-time $((poll + 10)) --connect-timeout 5 \
        --dump-header "$folder/head" --output "$folder/body" --write-out '%{http_code}' "$@"
}

# a random pause that grows with the failures, beside what the node asked for
pause() {
    after=$(header retry-after)
    case $after in '' | *[!0-9]*) after=0 ;; esac
    random=$(od -An -N2 -tu2 /dev/urandom)
    sleep "$(awk -v r="$random" -v f="$failures" -v after="$after" 'BEGIN {
        most = 0.1 * 2 ^ (f > 6 ? 6 : f); if (most > 5) most = 5
        print (after > 60 ? 60 : after) + most * r / 65536
    }')"
    failures=$((failures + 1))
}

while :; do
    started=$(date +%s)
    status=$(request "$1")
    seen=$(header x-last-sync)
    case $status in
    200 | 410) [ -n "$seen" ] || status=other ;; # not a vwatch node
    404)
        case $(header x-vwatch-error) in
        '') status=other ;;
        not-found) status=none ;;
        esac
        ;;
    esac
    case $status in
    200 | none | 410)
        # a new set, or what was seen is lost: the stamp says nothing
        [ -z "$(header x-vwatch-genesis)$(header x-vwatch-lost-since)" ] || stamp=
        [ -z "$seen" ] || stamp=$seen
        was=$knows$version
        knows=yes version=
        if [ "$status" = 200 ]; then
            version=$(header etag | tr -d '"')
        fi
        news=$version
        [ "$status" != 410 ] || news=deleted
        if [ -n "$news" ] && [ "$news" != "$reported" ]; then
            reported=$news failures=0
            if [ "$status" = 410 ]; then echo deleted; else echo "$version $(cat "$folder/body")"; fi
            continue
        fi
        if [ $(($(date +%s) - started)) -ge $((poll / 2)) ] || [ "$was" != "$knows$version" ]; then
            failures=0
            continue
        fi
        echo "$1: answered early without a change: trying the next node" >&2
        ;;
    000 | other | 408 | 409 | 429 | 5??)
        echo "$1: status $status: trying the next node" >&2
        ;;
    *)
        echo "$name: status $status: $(cat "$folder/body")" >&2
        exit 1
        ;;
    esac
    pause
    first=$1
    shift
    set -- "$@" "$first"
done
