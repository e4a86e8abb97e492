#!/bin/sh
# What tests saw when they tried to break the promises: the rows that they left in target/figures,
# one file each, as a table; and which rows of deploy/reliability.md have none.
#
#   tests/figures.sh            prints them
#   WRITE=1 tests/figures.sh    also puts them into deploy/reliability.md, between its two marks
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."

page=deploy/reliability.md
folder=target/figures
begin='<!-- figures begin -->'
end='<!-- figures end -->'

# Ids one a line, sorted as people count: J2 before J10, and J4 before J4.sync.
sorted() {
    sed 's/^\([A-Z]*\)\([0-9]*\)\(.*\)$/\1 \2 \3 &/' | sort -k1,1 -k2,2n -k3,3 | sed 's/.* //'
}

there() {
    if [ -d "$folder" ]; then
        find "$folder" -maxdepth 1 -type f -name '[JPX][0-9]*' | sed 's|.*/||' | sorted
    fi
}

# The rows of the page's own table, and not those that were put there from here.
wanted() {
    awk -v begin="$begin" -v end="$end" -F '|' '
        $0 == begin { skip = 1 }
        $0 == end { skip = 0 }
        !skip && $2 ~ /^ *[JPX][0-9]+ *$/ { gsub(/ /, "", $2); print $2 }
    ' "$page" | sorted
}

# A row of the page is seen if it has a figure, or a part of it has.
missing() {
    { there | sed 's/^/there /'; wanted; } | awk '
        $1 == "there" { sub(/\..*/, "", $2); seen[$2] = 1; next }
        !seen[$1] { print }
    '
}

unknown() {
    { wanted | sed 's/^/wanted /'; there; } | awk '
        $1 == "wanted" { known[$2] = 1; next }
        { id = $1; sub(/\..*/, "", id); if (!known[id]) print }
    '
}

table() {
    there | while read -r id; do
        # A run is as old as its figure.
        printf '%s\t%s\t%s\n' "$id" "$(date -u -r "$folder/$id" +%F)" "$(tr '|\n' '/ ' <"$folder/$id")"
    done | awk -F '\t' '
        function pad(text, width) { return sprintf("%-" width "s", text) }
        function line(a, b, c) { printf "| %s | %s | %s |\n", pad(a, w1), pad(b, 10), pad(c, w3) }
        function rule(width,   out) { while (length(out) < width) out = out "-"; return out }
        { sub(/ +$/, "", $3); id[NR] = $1; when[NR] = $2; seen[NR] = $3
          if (length($1) > w1) w1 = length($1)
          if (length($3) > w3) w3 = length($3) }
        END {
            if (w1 < 3) w1 = 3
            if (w3 < 4) w3 = 4
            line("row", "seen on", "seen")
            printf "|%s|%s|%s|\n", rule(w1 + 2), rule(12), rule(w3 + 2)
            for (n = 1; n <= NR; n++) line(id[n], when[n], seen[n])
        }'
}

machine() {
    model=$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
    memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
    disk=$(df -PT . | awk 'NR == 2 { print $2 " on " $1 }')
    commit=$(git rev-parse --short HEAD)
    if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
        commit="$commit with changes"
    fi
    echo "$(date -u +%F), $(nproc) processors (${model:-unknown}), $memory, Linux $(uname -r), $disk," \
        "commit $commit"
}

list() {
    tr '\n' ' ' | sed 's/ $//; s/ /, /g'
}

if [ -z "$(there)" ]; then
    echo "no figures yet: \`make test\` leaves them in $folder" >&2
    exit 1
fi
table
echo
echo "on: $(machine)"
echo "rows of $page without a figure: $(missing | list)"
strangers=$(unknown | list)
if [ -n "$strangers" ]; then
    echo "figures that $page has no row for: $strangers" >&2
fi
if [ "${WRITE:-}" = 1 ]; then
    if ! grep -qxF "$begin" "$page" || ! grep -qxF "$end" "$page"; then
        echo "$page has no place for them: $begin ... $end" >&2
        exit 1
    fi
    new=$(mktemp)
    trap 'rm -f "$new"' EXIT
    {
        sed "/^$begin\$/q" "$page"
        echo
        echo "$(machine)."
        without=$(missing | list)
        if [ -n "$without" ]; then
            echo "Without a figure from this machine: $without."
        fi
        echo
        table
        echo
        sed -n "/^$end\$/,\$p" "$page"
    } >"$new"
    cat "$new" >"$page"
    echo "written to $page" >&2
fi
