import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { HeldSvid, WorkloadIdentity } from '../../identity/identity.ts';
import { ALPN_NAMES, type MeshProtocol } from './protocol.ts';

/** Whom a ClientHello asks for, and in which protocol. */
export interface MeshWish {
  /** In lower case; empty without one. */
  readonly serverName: string;
  readonly protocol: MeshProtocol;
}

/** Our own tunnel goes before HBONE. Who offers neither is told within the tunnel's TLS what is missing. */
export function readMeshWish(hello: {
  readonly serverName: string | null;
  readonly alpn: readonly string[];
}): MeshWish {
  const { alpn } = hello;
  const isHbone = !alpn.includes(ALPN_NAMES.tunnel) && alpn.includes(ALPN_NAMES.hbone);
  return { serverName: hello.serverName ?? '', protocol: isHbone ? 'hbone' : 'tunnel' };
}

/** The identities of this host as its mesh port answers with them. */
export class ServedIdentities {
  readonly #byServerName = new Map<string, WorkloadIdentity>();
  /** The one that somebody may call. */
  readonly #sole: WorkloadIdentity | undefined;
  readonly #callable: number;

  constructor(identities: ReadonlyMap<string, WorkloadIdentity>) {
    const callable = new Set<SpiffeId>();
    for (const { svid, entry } of identities.values()) {
      const served = findServed(identities, svid.spiffeId);
      if (served !== undefined) this.#byServerName.set(spiffeServerName(svid.spiffeId), served);
      if (entry.listeners.length > 0) callable.add(svid.spiffeId);
    }
    const [only] = callable;
    this.#callable = callable.size;
    this.#sole = callable.size === 1 && only !== undefined ? findServed(identities, only) : undefined;
  }

  /** HBONE sends no server name: it is answered where only one identity can be meant. */
  find({ serverName, protocol }: MeshWish): WorkloadIdentity | undefined {
    if (serverName !== '') return this.#byServerName.get(serverName);
    return protocol === 'hbone' ? this.#sole : undefined;
  }

  /** Why `find` finds nobody. */
  whyNone({ serverName, protocol }: MeshWish): string {
    return serverName === '' && protocol === 'hbone'
      ? `HBONE names nobody, and ${this.#callable} identities have listeners here`
      : `no workload here has the name ${serverName || '(none)'}`;
  }
}

/** The identity that we serve under a SPIFFE ID; of several entries the one whose certificate lasts longest. */
export function findServed(
  identities: ReadonlyMap<string, WorkloadIdentity>,
  spiffeId: SpiffeId,
): WorkloadIdentity | undefined {
  let best: WorkloadIdentity | undefined;
  for (const identity of identities.values())
    if (identity.svid.spiffeId === spiffeId && !(best !== undefined && lastsLonger(best, identity)))
      best = identity;
  return best;
}

function lastsLonger(one: WorkloadIdentity, other: WorkloadIdentity): boolean {
  return one.svid.notAfterMs >= other.svid.notAfterMs;
}

/** Whether a certificate is one of those in use, and was not replaced or withdrawn. */
export function isInUse(
  current: ReadonlyMap<string, WorkloadIdentity>,
  { chainPem }: Pick<HeldSvid, 'chainPem'>,
): boolean {
  for (const { svid } of current.values()) if (svid.chainPem === chainPem) return true;
  return false;
}
