#!/usr/bin/env bash
# The session in healing.md and heal.cast: a cluster starts, one node is killed and returns, another is cut off and heals.
# All of it happens in a network namespace of its own, without rights on this machine:
#
#   cargo build --release && PATH="$PWD/target/release:$PATH" docs/guides/heal.sh
#
# To record it again: asciinema rec --overwrite -c docs/guides/heal.sh docs/guides/heal.cast
set -u
if [ -z "${IN_A_NETWORK_OF_ITS_OWN:-}" ]; then
    IN_A_NETWORK_OF_ITS_OWN=1 exec unshare --user --map-root-user --net "$0"
fi
ip link set lo up
folder=$(mktemp -d)
log=$folder/log
touch "$log"
trap 'kill $(jobs -p) 2> /dev/null; wait; rm -rf "$folder"' EXIT

say() { printf '\n\033[1;32m# %s\033[0m\n' "$1"; sleep 1; }
run() {
    printf '\033[1m$ %s\033[0m\n' "$1"
    sleep 0.5
    eval "$1"
    sleep 1
}
# waits until the log of the nodes has a line, and shows it
shows() {
    for _ in $(seq 300); do
        found=$(tail -n +"$((seen + 1))" "$log" | grep -m1 -E "$1") && break
        sleep 0.1
    done
    printf '%s\n' "${found:-not seen within 30 s: $1}"
}
mark() { seen=$(wc -l < "$log"); }
# the process of one of our nodes: a child of ours, found by its own arguments
process_of() {
    for child in $(cat /proc/"$dev"/task/*/children); do
        tr '\0' ' ' < /proc/"$child"/cmdline | grep -q -- "--node-id $1 " && echo "$child"
    done
}

say 'three nodes'
printf '\033[1m$ vwatch dev\033[0m\n'
vwatch dev >> "$log" 2>&1 &
dev=$!
seen=0
shows '^[0-9]+ nodes are ready'
run 'vwatch members --server-url http://127.0.0.1:8008'

say 'a watcher at the third node gets what is written at the first'
run 'vwatch watch --client-url http://127.0.0.3:8080 app & sleep 1'
run 'vwatch put --server-url http://127.0.0.1:8008 app 1'
run 'vwatch put --server-url http://127.0.0.2:8008 app 2'

say 'the second node is killed'
mark
run "kill -9 $(process_of node-2)"
shows 'node-1 .*node-2 .* is dead'
run 'vwatch members --server-url http://127.0.0.1:8008'
run 'vwatch put --server-url http://127.0.0.1:8008 app 3'

say 'it starts again, empty, and takes over the set before it answers reads'
again=$(tail -n +"$((seen + 1))" "$log" | sed -n 's/.*this starts it again: //p')
printf '\033[1m$ %s &\033[0m\n' "$again"
mark
$again >> "$log" 2>&1 &
shows ' ready: the set is complete names=1'
run 'vwatch get --client-url http://127.0.0.2:8080 app'

say 'the third node is cut off from the others'
mark
for way in '--source 127.0.0.3' '--destination 127.0.0.3'; do
    run "iptables -A INPUT $way -p udp --dport 8008 -j DROP; iptables -A INPUT $way -p tcp --dport 8008 -j DROP"
done
shows 'node-1 .*node-3 .* is dead'
run 'vwatch put --server-url http://127.0.0.1:8008 app 4'
run 'vwatch get --client-url http://127.0.0.3:8080 app'
run 'vwatch members --server-url http://127.0.0.1:8008'

say 'the cut ends: without a new write, the watcher gets what it missed'
mark
run 'iptables --flush'
shows 'node-1 .*node-3 .* is live'
sleep 2
run 'vwatch get --client-url http://127.0.0.3:8080 app'
run 'vwatch members --server-url http://127.0.0.1:8008'
