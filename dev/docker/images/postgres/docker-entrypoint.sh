#!/bin/sh
# The part of the official image's entrypoint that the compose files rely on: the first start creates
# the database, and the server listens on TCP only after that.
set -eu
user=${POSTGRES_USER:-postgres}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    initdb --no-sync --username="$user" --pwfile=/tmp/password --encoding=UTF8 --locale=C.UTF-8 \
        --auth-host=scram-sha-256 --auth-local=trust
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start
    [ "$user" = postgres ] || createdb --username="$user" "$user"
    pg_ctl --wait stop
fi
exec "$@" -c listen_addresses='*'
