import type { SecureContext } from 'node:tls';
import type { HeldSvid, WorkloadIdentity } from '../../identity/identity.ts';
import { createServerContext } from './tls.ts';

/**
 * The TLS contexts of the certificates that are served here, each from its first connection until it is in use no more. A context holds the keys of the session tickets that
 * are given with it. Of itself Bun shares one among connections, but frees it with the garbage when none is open, and a ticket of before resumes nothing then.
 */
export class ServerContexts {
  readonly #byChain = new Map<string, SecureContext>();

  /** Throws as `createServerContext`. */
  of(svid: HeldSvid): SecureContext {
    const known = this.#byChain.get(svid.chainPem);
    if (known !== undefined) return known;
    const context = createServerContext(svid);
    this.#byChain.set(svid.chainPem, context);
    return context;
  }

  /** Lets go of what was replaced or withdrawn. Connections that are open go on. */
  identitiesChanged(current: ReadonlyMap<string, WorkloadIdentity>): void {
    const inUse = new Set(Array.from(current.values(), ({ svid }) => svid.chainPem));
    for (const chainPem of this.#byChain.keys()) if (!inUse.has(chainPem)) this.#byChain.delete(chainPem);
  }
}
