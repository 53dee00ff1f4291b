#!/usr/bin/env bash
# Installs the programs, the systemd unit and a sample configuration:  test/install.sh DESTDIR PREFIX
#
# It starts and enables nothing. A configuration that is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$1 prefix=$2
for program in mayflyd mayfly; do
	[ -x "bin/$program" ] || { echo "install: bin/$program is missing: run make build first" >&2; exit 1; }
	install -D -m 0755 "bin/$program" "$root$prefix/bin/$program"
done
install -d -m 0755 "$root$prefix/lib/systemd/system"
sed "s|/usr/bin/|$prefix/bin/|" configs/mayflyd.service >"$root$prefix/lib/systemd/system/mayflyd.service"
install -D -m 0644 configs/mayfly.sysusers "$root$prefix/lib/sysusers.d/mayfly.conf"
install -D -m 0644 configs/mayfly.tmpfiles "$root$prefix/lib/tmpfiles.d/mayfly.conf"
if [ -e configs/mayfly.toml ] && [ ! -e "$root/etc/mayfly/mayfly.toml" ]; then
	install -D -m 0644 configs/mayfly.toml "$root/etc/mayfly/mayfly.toml"
fi
cat <<END
Installed below $root$prefix. To start it now and at every boot:
  systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl enable --now mayflyd
To use the command line without root, join the group mayfly:  usermod -aG mayfly \$USER
END
