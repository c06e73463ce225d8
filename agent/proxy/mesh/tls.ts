import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { PicketError } from '../../../shared/errors/errors.ts';
import { identityKindOf } from '../../../shared/spiffe/reserved-path.ts';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { TrustBundles } from '../../../shared/spiffe/trust-bundle.ts';
import type { SvidVerifier, VerifiedChain } from '../../../shared/spiffe/svid-verifier.ts';
import type { VerifiedSvid } from '../../../shared/spiffe/x509-svid.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import { ALPN_NAMES, type MeshProtocol } from './protocol.ts';

/** Where agents listen for each other, on every host. */
export const MESH_PORT = 15008;

/** Bun wants the number. */
const TLS_1_3 = 0x0304;
/**
 * Bun asks every caller for a certificate. Its own judgement of the peer is used on neither side, because it knows neither SPIFFE nor bundles and takes a resumed session for
 * good whatever its certificate: `requireMeshPeer` judges.
 */
const SERVER_JUDGEMENT = { requestCert: true, rejectUnauthorized: false } as const;
/** How long a session ticket is good, in seconds. */
const SESSION_SECONDS = 3600;
/** One more than a path may have, so that a chain that is too long is refused, not cut. */
const MAX_CHAIN_READ = 9;

/** The other end of a mesh connection, as its certificate proved it. */
export interface MeshPeer {
  readonly svid: VerifiedSvid;
  /** Leaf first, DER, to be verified again when trust changes. */
  readonly chain: readonly Uint8Array[];
}

/** What a peer is judged by. */
export interface Trust {
  readonly verifier: SvidVerifier;
  readonly bundles: TrustBundles;
  readonly nowMs: number;
}

/** What connections that others ask for share of their TLS: our certificate, and the keys of the session tickets that they are given. Throws what Bun says of a certificate or key that it does not take. */
export function createServerContext(svid: HeldSvid): SecureContext {
  const options: SecureContextOptions & typeof SERVER_JUDGEMENT = {
    ...SERVER_JUDGEMENT,
    cert: svid.chainPem,
    key: svid.privateKeyPem,
    minVersion: 'TLSv1.3',
    sessionTimeout: SESSION_SECONDS,
  };
  return createSecureContext(options);
}

/** Our side of a connection that somebody else asked for. Of a context of `createServerContext` Bun takes the native part, as node:tls itself gives it. */
export function serverTlsOptions(context: SecureContext, protocol: MeshProtocol): Bun.TLSOptions {
  return {
    ...SERVER_JUDGEMENT,
    secureContext: context.context as unknown,
    ALPNProtocols: alpnOf(protocol),
  } as Bun.TLSOptions;
}

/** Our side of a connection that we ask for, with X25519 alone: a hello of some 250 bytes. HBONE knows no server name. */
export function clientTlsOptions(svid: HeldSvid, target: SpiffeId, protocol: MeshProtocol): Bun.TLSOptions {
  return {
    cert: svid.chainPem,
    key: svid.privateKeyPem,
    rejectUnauthorized: false,
    ALPNProtocols: alpnOf(protocol),
    minVersion: TLS_1_3,
    ...(protocol === 'tunnel' && { serverName: spiffeServerName(target) }),
    ecdhCurve: 'X25519',
  } as Bun.TLSOptions;
}

/**
 * Who stands at the other end, after a handshake that succeeded, resumed or not. Throws `unauthenticated`, with the reasons of
 * `verifyX509Svid`, `certificate_missing`, `tls_unsuitable` or `identity_kind_refused`.
 */
export function requireMeshPeer(socket: Bun.Socket<unknown>, trust: Trust, protocol: MeshProtocol): MeshPeer {
  const name = ALPN_NAMES[protocol];
  if (socket.alpnProtocol !== name) throw untrusted('tls_unsuitable', `it does not speak ${name}`);
  const version = socket.getTLSVersion();
  if (version !== 'TLSv1.3') throw untrusted('tls_unsuitable', `it speaks ${version}`);
  const { svid, chain } = recallPeer(socket, trust) ?? verifyPeer(socket, trust);
  const kind = identityKindOf(svid.spiffeId);
  if (kind !== 'workload')
    throw untrusted('identity_kind_refused', `${svid.spiffeId} is the ${kind}, not a workload`);
  return { svid, chain };
}

/** Most peers are known: taking the whole chain apart, as Bun does to show it, costs more than all the rest. */
function recallPeer(
  socket: Bun.Socket<unknown>,
  { verifier, bundles, nowMs }: Trust,
): VerifiedChain | undefined {
  const leaf = socket.getPeerX509Certificate()?.raw;
  return leaf === undefined ? undefined : verifier.recall(leaf, bundles, nowMs);
}

function verifyPeer(socket: Bun.Socket<unknown>, { verifier, bundles, nowMs }: Trust): VerifiedChain {
  const chain = peerChainOf(socket);
  if (chain.length === 0) throw untrusted('certificate_missing', 'it showed no certificate');
  return verifier.verify(chain, bundles, nowMs);
}

/** Bun wants the wire form: each name after a byte with its length. */
function alpnOf(protocol: MeshProtocol): Buffer {
  const name = ALPN_NAMES[protocol];
  return Buffer.from(`${String.fromCharCode(name.length)}${name}`, 'latin1');
}

interface ChainLink {
  readonly raw?: Uint8Array;
  readonly issuerCertificate?: ChainLink;
}

/** What the peer sent, leaf first, also on a resumed session: a ticket holds the whole chain. Bun shows the rest of it behind the undocumented argument `false`. */
function peerChainOf(socket: Bun.Socket<unknown>): readonly Uint8Array[] {
  const read = socket.getPeerCertificate.bind(socket) as unknown as (
    isAbbreviated: boolean,
  ) => ChainLink | null;
  const chain: Uint8Array[] = [];
  let link = read(false) ?? undefined;
  while (link?.raw !== undefined && chain.length < MAX_CHAIN_READ) {
    chain.push(new Uint8Array(link.raw));
    // A self-signed certificate is its own issuer.
    link = link.issuerCertificate === link ? undefined : link.issuerCertificate;
  }
  return chain;
}

/** The error of a peer that proved less than it must. */
export function untrusted(reason: string, why: string): PicketError {
  return new PicketError('unauthenticated', reason, `Cannot trust the other host: ${why}`);
}
