import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { isListening } from '../../kit/programs.ts';
import { pairOf, type PeerContender } from './contender.ts';
import type { PeerPair } from './peer.ts';

const STREAM_MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';

/** nginx on both sides: its stream module, or on the called side its http module with a rule and our header for each request. */
export async function startNginxPair(pair: PeerPair): Promise<PeerContender> {
  const { caller, called, ports } = pair;
  const calledConfig = pair.mode === 'tcp' ? calledStream(pair) : calledHttp(pair);
  const processes = [
    await startSide(called, { pair, port: ports.tls, name: 'called', config: calledConfig }),
    await startSide(caller, { pair, port: ports.entry, name: 'caller', config: callerStream(pair) }),
  ];
  return pairOf({ name: 'nginx', caller, entry: `127.0.0.1:${ports.entry}`, processes });
}

async function startSide(
  host: TestHost,
  side: { readonly pair: PeerPair; readonly port: number; readonly name: string; readonly config: string },
): Promise<Child> {
  const { folder, threads } = side.pair;
  const file = join(folder, `nginx-${side.port}-${side.name}.conf`);
  writeFileSync(
    file,
    `load_module ${STREAM_MODULE};
user root; worker_processes ${threads}; daemon off; pid ${file}.pid; error_log ${file}.err;
events { worker_connections 9000; multi_accept on; }
${side.config}`,
  );
  const child = new Child({ command: host.in('/usr/sbin/nginx', '-c', file), logFile: `${file}.log` });
  await child.ready(`nginx listens at ${side.port}`, async () => await isListening(host, side.port));
  return child;
}

function callerStream({ ports, called, certificates, sessions }: PeerPair): string {
  const { caller, authority } = certificates;
  return `stream { server {
  listen 127.0.0.1:${ports.entry} backlog=4096; tcp_nodelay on; proxy_buffer_size 64k;
  proxy_pass ${called.ipv4}:${ports.tls};
  proxy_ssl on; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse ${sessions === 'full' ? 'off' : 'on'};
  proxy_ssl_certificate ${caller.certificate}; proxy_ssl_certificate_key ${caller.key}; proxy_ssl_trusted_certificate ${authority};
} }
`;
}

function tlsListen({ ports, called, certificates }: PeerPair): string {
  const { certificate, key } = certificates.called;
  return `listen ${called.ipv4}:${ports.tls} ssl backlog=4096; ssl_protocols TLSv1.3; ssl_session_cache shared:S${ports.tls}:10m;
  ssl_certificate ${certificate}; ssl_certificate_key ${key}; ssl_client_certificate ${certificates.authority}; ssl_verify_client on;`;
}

function calledStream(pair: PeerPair): string {
  return `stream { server {
  ${tlsListen(pair)}
  tcp_nodelay on; proxy_buffer_size 64k; proxy_pass ${pair.called.ipv4}:${pair.application};
} }
`;
}

function calledHttp(pair: PeerPair): string {
  return `http {
access_log off; tcp_nodelay on; keepalive_requests 100000000; client_max_body_size 0;
client_body_temp_path ${pair.folder}/body; proxy_temp_path ${pair.folder}/proxy; fastcgi_temp_path ${pair.folder}/fastcgi;
uwsgi_temp_path ${pair.folder}/uwsgi; scgi_temp_path ${pair.folder}/scgi;
upstream b { server ${pair.called.ipv4}:${pair.application}; keepalive 512; keepalive_requests 100000000; }
server {
  ${tlsListen(pair)}
  location /admin { return 403; }
  location / {
    proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header x-forwarded-client-cert "By=spiffe://bench.test/called;URI=spiffe://bench.test/caller";
  }
} }
`;
}
