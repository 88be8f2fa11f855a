#!/bin/sh
# Apply, in the stock sqlite3 shell, the migrations that a database has not had yet: each in one
# transaction with its record. Files and records are those of dbmate, which loads no extension itself.
#     sh examples/migrations/migrate.sh app.db examples/migrations/sql          (what is new)
#     sh examples/migrations/migrate.sh app.db examples/migrations/sql down     (the last one back)
set -eu
database=$1 directory=$2 direction=${3:-up}
load=".load $(sqlembed path)"

run() { # SQL from standard input; an error ends it, and rolls back what is open
    sqlite3 -batch -bail -cmd '.timeout 5000' -cmd "$load" "$database"
}
section() { # of a file: up or down
    awk -v wanted="$direction" '/^-- migrate:/ { on = ($2 == "migrate:" wanted) } on' "$1"
}

echo 'CREATE TABLE IF NOT EXISTS schema_migrations(version VARCHAR(128) PRIMARY KEY);' | run
last=$(echo 'SELECT max(version) FROM schema_migrations;' | run)
for file in "$directory"/*_*.sql; do
    name=${file##*/}
    version=${name%%_*}
    applied=$(echo "SELECT count(*) FROM schema_migrations WHERE version = '$version';" | run)
    case $direction-$applied in
        up-0) record="INSERT INTO schema_migrations VALUES ('$version');" ;;
        down-1) record="DELETE FROM schema_migrations WHERE version = '$version';" ;;
        *) continue ;;
    esac
    [ "$direction" = up ] || [ "$version" = "$last" ] || continue
    { echo "BEGIN IMMEDIATE; $record"; section "$file"; echo 'COMMIT;'; } | run >/dev/null
    echo "$direction $name"
done
