/** An agent.yaml with every setting, what it means and its default: `picket agent config-example`. What begins with `#` after a space may be left out. */
export const AGENT_CONFIG_EXAMPLE = `# Settings of picket agent. What is not marked "required" shows its default.

# required: the trust domain of the mesh
trust_domain: example.org

# required: where the servers answer agents, tried in this order
servers:
  - server.example.org:8443

# required: whom to believe before this host has attested; one of
#   bundle_file:      the roots (PEM), put here by who set up the host
#   root_key_sha256:  the hash printed by: picket token create
trust:
  bundle_file: /etc/picket/bundle.pem

# required: how this host proves which one it is; one of
#   join_token:       a token from: picket token create (better: join_token_file)
#   join_token_file:  a file that holds the token
#   tpm:              the TPM 2.0 of the host, approved by: picket node tpm approve
attestation:
  tpm:
    device: /dev/tpmrm0 # or unix:/path or tcp:127.0.0.1:2321 of a software TPM
    ek: auto # endorsement key: auto, rsa or ecc
    ak: ecc # attestation key: ecc or rsa
    # endorsement_password_file: /etc/picket/endorsement-password

# The addresses that this host claims to have; those of its interfaces unless given. A claim counts once it is proved.
# addresses: [10.0.0.5]

# Identities, the last good policy and the records that were not shipped yet. Nobody but root may read it.
data_dir: /var/lib/picket/agent
# The key that seals them; <data_dir>/seal.key unless given. A systemd credential named picket-seal-key goes before it.
# seal_key_file: /etc/picket/seal.key

sockets:
  workload_api: /run/picket/agent.sock # SPIFFE Workload API: SPIFFE_ENDPOINT_SOCKET=unix:///run/picket/agent.sock
  admin: /run/picket/admin.sock # picket agent status, picket why

ports:
  outbound: 15001 # captured connections of this host's programs
  inbound: 15006 # captured plaintext connections to them
  mesh: 15008 # other agents

capture:
  # Whether the agent installs the rules that steer traffic into it and keeps them as they must be. It never removes them: picket agent
  # capture remove does. To try the rules first: false, then picket agent capture apply --confirm-within 60s.
  enabled: true
  # nftables, or ebpf: programs that run when a program of this host connects, with nftables behind them as the guard. auto: ebpf where the kernel takes it.
  backend: nftables
  bpf_dir: /sys/fs/bpf/picket # eBPF only: where the programs are pinned; of one agent alone
  # eBPF only: the cgroup of version 2 whose programs are captured, and refused outside of it; where cgroups are mounted unless given, which is all.
  # cgroup: /sys/fs/cgroup
  mark: 0x5049 # of the agent's own connections
  # The rules for the next boot; <data_dir>/capture.nft unless given.
  # rules_file: /etc/picket/capture.nft
  exclude:
    inbound_ports: [22] # the ports at which an SSH server listens are always left alone
    outbound_ports: []
    outbound_addresses: [] # such as 192.0.2.0/24
    users: [] # numeric user ids whose connections leave as they are
  # UDP that may leave this host, such as its DNS servers; everything else is dropped.
  #   - { address: 192.0.2.53, port: 53 }
  allow_udp: []

# What leaves the mesh may be decided by the DNS name that it asks for; a name counts if one of these servers says that it leads there. Those of the host unless given.
egress:
  resolvers: [] # such as [192.0.2.53:53]; allow_udp must let them through

# Ports of this host that lead to a service of the mesh, for programs whose connections cannot be captured. Who connects is found out as for captured ones.
#   - { listen: 127.0.0.1:5433, to: 10.0.0.2:5432 }
forwards: []

# TLS connections between agents carry one connection of programs after another, and resume their sessions. Each costs a handshake more when it is false.
mesh:
  reuse_connections: true
  resume_sessions: true

# The records of all decisions, until the server has them. When they fill max_bytes, requests are refused.
audit:
  max_bytes: 1073741824
  durability: group # fdatasync every few milliseconds; sync: before each request goes on

log_level: info # debug, info, warn or error

# Loopback only; null: not served.
metrics_address: 127.0.0.1:15020 # GET /metrics
readiness_address: 127.0.0.1:15021 # GET /ready and /live

limits:
  connections: 10000 # captured and mesh connections at once
  connections_per_host: 4096 # from one other host
  workload_api_connections: 4096
  workload_api_connections_per_user: 1024
  workload_api_streams_per_user: 2048
`;
