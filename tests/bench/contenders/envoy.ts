import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { isListening } from '../../kit/programs.ts';
import { pairOf, type PairMode, type PeerContender } from './contender.ts';
import type { PeerPair } from './peer.ts';

/** Envoy on both sides: tcp_proxy, or on the called side its HTTP connection manager with an RBAC rule and our header for each request. */
export async function startEnvoy(pair: PeerPair, executable: string): Promise<PeerContender> {
  const { caller, called, ports } = pair;
  const processes = [
    await startSide(called, { pair, executable, port: ports.tls, config: calledConfig(pair) }),
    await startSide(caller, { pair, executable, port: ports.entry, config: callerConfig(pair) }),
  ];
  return pairOf({ name: 'envoy', caller, entry: `127.0.0.1:${ports.entry}`, processes });
}

async function startSide(
  host: TestHost,
  side: {
    readonly pair: PeerPair;
    readonly executable: string;
    readonly port: number;
    readonly config: unknown;
  },
): Promise<Child> {
  const { pair, executable, port } = side;
  const file = join(pair.folder, `envoy-${port}.json`);
  writeFileSync(file, JSON.stringify(side.config));
  const options = ['--concurrency', String(pair.threads), '--base-id', String(port), '--log-level', 'error'];
  const child = new Child({ command: host.in(executable, '-c', file, ...options), logFile: `${file}.log` });
  await child.ready(`Envoy listens at ${port}`, async () => await isListening(host, port));
  return child;
}

const EXTENSIONS = 'type.googleapis.com/envoy.extensions';

function callerConfig({ ports, called, certificates, sessions }: PeerPair): unknown {
  const tls = {
    '@type': `${EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext`,
    common_tls_context: tlsContext(certificates.caller, certificates.authority),
    ...(sessions === 'full' ? { max_session_keys: 0 } : {}),
  };
  return configOf({
    listen: { address: '127.0.0.1', port: ports.entry },
    filters: [tcpProxy()],
    cluster: { address: called.ipv4, port: ports.tls, transport: { name: 'tls', typed_config: tls } },
  });
}

function calledConfig({ ports, called, certificates, mode, application }: PeerPair): unknown {
  const tls = {
    '@type': `${EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext`,
    require_client_certificate: true,
    common_tls_context: tlsContext(certificates.called, certificates.authority),
  };
  return configOf({
    listen: { address: called.ipv4, port: ports.tls, transport: { name: 'tls', typed_config: tls } },
    filters: [mode === 'tcp' ? tcpProxy() : httpManager(mode)],
    cluster: { address: called.ipv4, port: application },
    isHttp2: mode === 'http2',
  });
}

interface Endpoint {
  readonly address: string;
  readonly port: number;
  readonly transport?: unknown;
}

function configOf(parts: {
  readonly listen: Endpoint;
  readonly filters: unknown;
  readonly cluster: Endpoint;
  /** Whether the cluster is asked by HTTP/2. */
  readonly isHttp2?: boolean;
}): unknown {
  const { listen, filters, cluster, isHttp2 = false } = parts;
  const chain = { filters, ...transportOf(listen) };
  const endpoint = { endpoint: { address: addressOf(cluster) } };
  return {
    static_resources: {
      listeners: [{ name: 'l', address: addressOf(listen), tcp_backlog_size: 4096, filter_chains: [chain] }],
      clusters: [
        {
          name: 'b',
          type: 'STATIC',
          connect_timeout: '5s',
          load_assignment: { cluster_name: 'b', endpoints: [{ lb_endpoints: [endpoint] }] },
          circuit_breakers: {
            thresholds: [{ max_connections: 20_000, max_pending_requests: 20_000, max_requests: 20_000 }],
          },
          ...transportOf(cluster),
          ...(isHttp2 ? { typed_extension_protocol_options: HTTP2_UPSTREAM } : {}),
        },
      ],
    },
  };
}

const HTTP2_UPSTREAM = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': `${EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions`,
    explicit_http_config: { http2_protocol_options: {} },
  },
};

function transportOf({ transport }: Endpoint): { readonly transport_socket?: unknown } {
  return transport === undefined ? {} : { transport_socket: transport };
}

function addressOf({ address, port }: Endpoint): unknown {
  return { socket_address: { address, port_value: port } };
}

function tlsContext(own: { readonly certificate: string; readonly key: string }, authority: string): unknown {
  return {
    // As a client Envoy goes up to 1.2 unless told.
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [
      { certificate_chain: { filename: own.certificate }, private_key: { filename: own.key } },
    ],
    validation_context: { trusted_ca: { filename: authority } },
  };
}

function tcpProxy(): unknown {
  return {
    name: 'tcp',
    typed_config: {
      '@type': `${EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: 't',
      cluster: 'b',
    },
  };
}

function httpManager(mode: PairMode): unknown {
  const rbac = {
    '@type': `${EXTENSIONS}.filters.http.rbac.v3.RBAC`,
    rules: {
      action: 'DENY',
      policies: {
        admin: { permissions: [{ url_path: { path: { prefix: '/admin' } } }], principals: [{ any: true }] },
      },
    },
  };
  const header = {
    header: {
      key: 'x-forwarded-client-cert',
      value: 'By=spiffe://bench.test/called;URI=spiffe://bench.test/caller',
    },
  };
  return {
    name: 'http',
    typed_config: {
      '@type': `${EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: 'h',
      // Without ALPN it must be told.
      codec_type: mode === 'http2' ? 'HTTP2' : 'AUTO',
      http_filters: [
        { name: 'rbac', typed_config: rbac },
        { name: 'router', typed_config: { '@type': `${EXTENSIONS}.filters.http.router.v3.Router` } },
      ],
      route_config: {
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            routes: [{ match: { prefix: '/' }, route: { cluster: 'b' }, request_headers_to_add: [header] }],
          },
        ],
      },
    },
  };
}
