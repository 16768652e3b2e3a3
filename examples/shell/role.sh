#!/bin/sh
# The role `counter`: counts the words of the results that its subtask needs. docs/wire.md says why.
# Usage: role.sh [-h HOST] [-p PORT] [--cafile FILE] …: what mosquitto_pub and mosquitto_sub both take; the login is
# that of SWARM_BUS_USER and SWARM_BUS_PASSWORD. Needs mosquitto_pub, mosquitto_sub and jq.
set -eu

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
nonce=$(random)
agent=${SWARM_BUS_USER:-anonymous}/counter-$nonce # user/instance
mine=swarm/v1/agent/$agent
roles='[{name: "counter", about: "Counts the words of results."}]'
held=$(mktemp -d) # LEASE.request: what we hold; LEASE.reply: it is done; LEASE.over: it is held no more
[ -z "${SWARM_BUS_USER-}" ] || set -- -u "$SWARM_BUS_USER" -P "${SWARM_BUS_PASSWORD-}" "$@"

event() { # TYPE FIELDS [JQ-OPTION…] <MESSAGE: makes an event in answer to a message
    type=$1 fields=$2
    shift 2
    jq -c --arg id "$(random)" --arg source "/swarm/agent/$agent" --arg type "swarm.$type.v1" "$@" \
        '{specversion: "1.0", $id, $source, $type} + '"$fields"
}
publish() { # TOPIC OPTION… <MESSAGE: what the broker does not take now is said again later
    topic=$1
    shift
    mosquitto_pub -V mqttv5 -q 1 -s -t "$topic" "$@" || echo "not said on $topic" >&2
}
answer() { # REQUEST OPTION… <MESSAGE
    to=$(jq -r .data.attachments.reply_to "$1") && shift && publish "$to" "$@"
}
note() { # KIND REQUEST OPTION…
    kind=$1 && shift
    event "note.$kind" '{data: {lease: .id}}' <"$1" | answer "$@"
}
work() { # REQUEST OPTION…: the role itself
    words=$(jq -r '.data.attachments.briefing.findings[].text' "$1" | wc -w)
    event ResultSubmitted '{subject, correlationid, causationid: .id, sequence: "1", $time,
            data: {$text, effects: (.data.attachments.briefing.journal | length)}}' \
        --arg time "$(date -u +%Y-%m-%dT%H:%M:%SZ)" --arg text "The results have $((words)) words." <"$1" >"$1.new"
    mv "$1.new" "${1%.request}.reply" && answer "$@" <"${1%.request}.reply"
}
say_again() { # OPTION…: that we are at it, and what is not recorded
    for one in "$held"/*.request; do
        [ ! -e "$one" ] || note progress "$one" "$@"
        [ ! -e "${one%.request}.reply" ] || answer "$one" "$@" <"${one%.request}.reply"
    done
}

mkfifo "$held/inbox"
mosquitto_sub -V mqttv5 -q 1 -F '%t %p' -t "$mine/request/+" -t "$mine/control" -t 'swarm/v1/hub/+/card' \
    --will-topic "$mine/card" --will-qos 1 --will-retain "$@" >"$held/inbox" &
listening=$!
while sleep 5; do say_again "$@"; done &
trap "kill $! $listening 2>/dev/null; rm -rf '$held'" EXIT
trap 'exit 143' INT TERM
while read -r topic message; do
    [ -n "$message" ] || continue # a card that was cleared
    lease=$(printf %s "$message" | jq -r '.data.lease // .id | select(test("^[A-Za-z0-9_-]+$"))')
    request=$held/$lease.request
    case $(printf %s "$message" | jq -r '.type + if .data.over then ".over" else "" end') in
    swarm.note.card.v1) # a hub is there: it is to know us, and may lack what was said
        printf %s "$message" | event note.card "{data: {roles: $roles, slots: 4, nonce: \"$nonce\"}}" |
            publish "$mine/card" -r "$@"
        say_again "$@" ;;
    swarm.SubtaskAssigned.v1)
        [ ! -e "$held/$lease.over" ] && [ ! -e "$request" ] || continue # it is done once, though it came twice
        printf %s "$message" >"$request"
        note accepted "$request" "$@"
        work "$request" "$@" & ;;
    swarm.note.moved.v1) # another hub owns the run: from now on all is said to that one
        jq -c --argjson to "$message" ".data.attachments.reply_to = \$to.data.reply_to" "$request" >"$request.new" &&
            mv "$request.new" "$request" && say_again "$@" ;;
    swarm.note.cancel.v1 | swarm.note.recorded.v1.over)
        : >"$held/$lease.over" && rm -f "$request" "$held/$lease.reply" ;;
    esac
done <"$held/inbox"
