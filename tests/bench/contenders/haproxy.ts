import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { isListening } from '../../kit/programs.ts';
import { pairOf, type PeerContender } from './contender.ts';
import type { PeerPair } from './peer.ts';

/** haproxy on both sides: TCP, or on the called side HTTP with a rule and our header for each request. */
export async function startHaproxy(pair: PeerPair): Promise<PeerContender> {
  const { caller, called, ports } = pair;
  const processes = [
    await startSide(called, { pair, port: ports.tls, name: 'called', config: calledConfig(pair) }),
    await startSide(caller, { pair, port: ports.entry, name: 'caller', config: callerConfig(pair) }),
  ];
  return pairOf({ name: 'haproxy', caller, entry: `127.0.0.1:${ports.entry}`, processes });
}

async function startSide(
  host: TestHost,
  side: { readonly pair: PeerPair; readonly port: number; readonly name: string; readonly config: string },
): Promise<Child> {
  const file = join(side.pair.folder, `haproxy-${side.port}-${side.name}.cfg`);
  writeFileSync(file, side.config);
  const child = new Child({ command: host.in('haproxy', '-db', '-f', file), logFile: `${file}.log` });
  await child.ready(`haproxy listens at ${side.port}`, async () => await isListening(host, side.port));
  return child;
}

function head(threads: number, mode: string): string {
  return `global
 nbthread ${threads}
 maxconn 9000
defaults
 mode ${mode}
 timeout connect 5s
 timeout client 600s
 timeout server 600s
`;
}

function callerConfig({ ports, called, certificates, threads, sessions }: PeerPair): string {
  const { caller, authority } = certificates;
  const reuse = sessions === 'full' ? ' no-ssl-reuse' : '';
  return `${head(threads, 'tcp')}frontend f
 bind 127.0.0.1:${ports.entry} backlog 4096
 default_backend b
backend b
 server s ${called.ipv4}:${ports.tls} ssl crt ${caller.both} ca-file ${authority} verify required ssl-min-ver TLSv1.3 alpn zt/1${reuse}
`;
}

function calledConfig({ ports, called, certificates, threads, mode, application }: PeerPair): string {
  // Without ALPN it must be told.
  const proto = mode === 'http2' ? ' proto h2' : '';
  const rules =
    mode === 'tcp'
      ? ''
      : ` http-request deny if { path_beg /admin }
 http-request set-header x-forwarded-client-cert "By=spiffe://bench.test/called;URI=spiffe://bench.test/caller"
`;
  return `${head(threads, mode === 'tcp' ? 'tcp' : 'http')}frontend f
 bind ${called.ipv4}:${ports.tls} backlog 4096 ssl crt ${certificates.called.both} ca-file ${certificates.authority} verify required ssl-min-ver TLSv1.3 alpn zt/1${proto}
${rules} default_backend b
backend b
 server s ${called.ipv4}:${application}${proto}
`;
}
