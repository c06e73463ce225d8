/** A server.yaml with every setting, what it means and its default: `picket server config-example`. */
export const SERVER_CONFIG_EXAMPLE = `# Settings of picket server. What is not marked "required" shows its default.
# Each can be set by a variable too: PICKET_SERVER__DATABASE__URL for database.url.

# required: the trust domain of the mesh, the one given to picket ca init
trust_domain: example.org

# required: the folder "online" that picket ca init wrote. Its keys are taken into keys.directory at the first start, and removed there.
ca:
  directory: /etc/picket/ca/online

# The embedded database, and the folders that are not named below.
data_dir: /var/lib/picket/server

# The online keys, encrypted; and the secret that opens them. Keep the two apart in backups.
keys:
  directory: /var/lib/picket/server/keys
  secret_file: /var/lib/picket/server/keys.secret

# PostgreSQL 13 or later, the way to production. Without a URL: an embedded database for one server and for trying out.
database: {}
#  url: postgres://picket@db.example.org/picket?sslmode=verify-full
#  url_file: /etc/picket/database-url

listen:
  agents: 0.0.0.0:8443
  operators: 0.0.0.0:8444 # null: only the local socket
  socket: /run/picket-server/server.sock # root may do everything there; others what policies/admin allows
  # names: [server.example.org, 10.0.0.1] # DNS names and IP addresses in the server's certificate; this host's name, localhost, 127.0.0.1 and ::1 unless given

svid:
  agent_ttl_seconds: 86400 # life of an agent's own certificate

tpm:
  pcrs: [0, 1, 2, 3, 4, 5, 6, 7] # registers that every TPM quotes
  # Certificates (PEM) of manufacturers: an endorsement key that one of them certified is shown as genuine.
  # manufacturer_roots: /etc/picket/tpm-roots.pem
  # manufacturer_intermediates: /etc/picket/tpm-intermediates.pem
  require_certificate: false # refuse a TPM that is not proven genuine, approved or not

policy:
  opa: opa # the executable that checks, tests and compiles policies; the server does not start without it
  temporary_dir: /var/lib/picket/server/tmp

audit:
  retention_days: 365
  # What one host may have stored each second, on average over a minute; null: as much as it has. A record counts once for each KiB that it begins. What is more waits in the host's spool.
  denials_per_second: 500
  records_per_second: null

log_level: info # debug, info, warn or error

metrics_address: 127.0.0.1:15022 # for Prometheus, loopback only; null: not served
`;
