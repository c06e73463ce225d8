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
  # Of what applications answer to callers whose address is kept for them (listeners with /transparent): mark, routing table and zone of connection tracking.
  transparent_id: 0x504a
  # The rules for the next boot; <data_dir>/capture.nft unless given.
  # rules_file: /etc/picket/capture.nft
  exclude:
    inbound_ports: [22] # the ports at which an SSH server listens are always left alone
    outbound_ports: []
    outbound_addresses: [] # such as 192.0.2.0/24
    users: [] # numeric user ids whose connections leave as they are
  # Other network namespaces of this host whose programs this agent serves, such as pods: docs/capture.md. They may come and go.
  #   - name: shop # entries name it: netns:name:shop
  #     path: /run/netns/shop # this one unless given
  #     addresses: [10.0.8.2] # how it is reached; to be confirmed like the host's own
  #   - name: pods # of all that are in a folder under such a name
  #     pattern: cni-*
  #     folder: /run/netns # this one unless given
  #     addresses_in: [10.0.9.0/24] # what the host's routes to single addresses lead to there is reached; the rest is closed
  #     most: 110 # captured at once, unless given
  namespaces: []
  # UDP that may leave this host, such as its DNS servers; everything else is dropped.
  #   - { address: 192.0.2.53, port: 53 }
  allow_udp: []

# What leaves the mesh may be decided by the DNS name that it asks for; a name counts if one of these servers says that it leads there. Those of the host unless given.
egress:
  # Every program of this host may ask them, by UDP and TCP, without a decision.
  resolvers: [] # such as [192.0.2.53:53]
  # drop, or policy: the policy's egress rule decides on UDP as well, flow by flow; input.request.protocol is udp.
  udp: drop
  # Authorities that the policy may name where it asks for an outside server's certificate: files with their certificates (PEM).
  #   partner: /etc/picket/partner-ca.pem
  authorities: {}
  # Whoever dials, this agent or the gateway, inspects what the policy says "inspect" of: it ends its TLS with certificates of this authority, which programs must trust.
  # What is to be inspected is refused unless this is given. Read at start; docs/egress.md.
  # inspection:
  #   certificate_file: /etc/picket/inspection-ca.pem # PEM, its own certificate first
  #   key_file: /etc/picket/inspection-ca.key # PEM; nobody but root may read it
  #   server_authorities_file: /etc/picket/outside-authorities.pem # who vouches for outside servers; the authorities of this host unless given
  gateway_refuses: [] # picket gateway --egress only: networks to which it takes nothing whatever the policy says, such as 192.0.2.0/24
  gateway_allows: [] # picket gateway --egress only: inside networks (10.0.0.0/8, fc00::/7 and the like) to which it may take something, such as 10.20.0.0/16; else to none. Public ones are not named

# Networks that a policy knows by name: input.context.networks.office tells whether the caller's address is in it. The same on every host, best.
#   office: [192.0.2.0/24, 2001:db8:7::/48]
networks: {}

# Who may say who the user of a request is: by a signed bearer token (JWT). Up to 16.
#   - name: corp # input.user.id is corp:SUBJECT
#     issuer: https://login.example.org # the claim iss
#     audiences: [https://shop.example.org] # one of them must be in the claim aud
#     keys_url: https://login.example.org/keys # or keys_file: /etc/picket/corp-keys.json; never read while a request waits
#     keys_ca_file: /etc/picket/login-ca.pem # who certifies that server; the authorities of this host unless given
#     algorithms: [RS256, PS256, ES256, EdDSA]
#     refresh_seconds: 300
#     max_key_age_seconds: 86400 # while the keys cannot be read again, the old ones hold so long
users:
  issuers: []

# Spans of requests and connections, sent by OTLP over HTTP; nothing is traced, and trace context passes as it is, unless given.
# traces:
#   endpoint: http://127.0.0.1:4318/v1/traces # https, or http to a loopback address
#   ca_file: /etc/picket/collector-ca.pem # who certifies an https endpoint; the authorities of this host unless given
#   ratio: 0.1 # of the traces that begin here, and of connections, how many are recorded
#   parent_based: true # a request that belongs to a trace says by itself whether it is recorded

# Ports of this host that lead to a service of the mesh, for programs whose connections cannot be captured. Who connects is found out as for captured ones.
#   - { listen: 127.0.0.1:5433, to: 10.0.0.2:5432 }
forwards: []

# How many processes carry the traffic: 1 is the agent itself, auto is one for each core. Connections of one other host, and of one process of this one, go to one of them.
proxy:
  workers: 1

# TLS connections between agents carry one connection of programs after another, and resume their sessions. Each costs a handshake more when it is false.
mesh:
  reuse_connections: true
  resume_sessions: true
  # Connections that stand ready where there is traffic, for each calling workload, called workload and host: 0 to 16.
  spares: 0
  # HBONE, which agents of other meshes speak, such as Istio's ztunnel.
  hbone:
    accept: true # on ports.mesh; it names no workload, so it is answered where one identity of this host has listeners
    # Where workloads of other meshes answer, at their port 15008, and who must answer there; ports: all unless given.
    #   - { addresses: [10.1.0.7], ports: [8080], spiffe_id: spiffe://example.org/ns/shop/sa/cart }
    peers: []

# The records of all decisions, until the server has them. When they fill max_bytes, requests are refused; denials fill three quarters of it at most.
audit:
  max_bytes: 1073741824
  durability: group # fdatasync every few milliseconds; sync: before each request goes on
  # What is kept of the query of a request, which may hold tokens and signed URLs. names: its parameters without their values (/a?token=*); full; none: nothing.
  queries: names

upgrade:
  drain_seconds: 300 # picket agent upgrade: open connections may go on for so long with the agent that was replaced

log_level: info # debug, info, warn or error

# Loopback only; null: not served.
metrics_address: 127.0.0.1:15020 # GET /metrics
readiness_address: 127.0.0.1:15021 # GET /ready and /live

limits:
  connections: 10000 # captured and mesh connections at once
  connections_per_host: 4096 # from one other host
  udp_flows: 1024 # with egress.udp: policy, flows of UDP that may pass at once
  workload_api_connections: 4096
  workload_api_connections_per_user: 1024
  workload_api_streams_per_user: 2048
`;
