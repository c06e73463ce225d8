import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { AgentAttestation, AgentCredentials } from './agent-attestation.ts';
import type { HeldSvid } from './identity.ts';
import type { IdentityStore } from './identity-store.ts';
import { RenewableSvid } from './renewable-svid.ts';

export interface AgentSvidOptions {
  readonly attestation: Pick<AgentAttestation, 'attest' | 'renew' | 'canReattest'>;
  readonly store: Pick<IdentityStore, 'writeAgentSvid'>;
  /** Why the server turns this agent away, until it accepts it again. */
  readonly refusal: Watched<PicketError | undefined>;
  readonly clock: Clock;
  /** From 0 to 1, spreads renewals. */
  readonly random: () => number;
}

/** What the server gave with an SVID. */
export interface GivenWithSvid {
  readonly bundle: TrustBundle;
  /** The SVID is for another SPIFFE ID than the host had before, or for its first. */
  readonly isOther: boolean;
}

/** A host that is turned away although it just proved itself does not prove itself over and over. */
export const PROVE_AGAIN_MS = 5000;

/** The SVID of the host's own agent: got by proving the host, renewed in time, and proven for anew where nothing else helps. */
export class AgentSvid {
  readonly #options: AgentSvidOptions;
  #current: WatchedValue<HeldSvid> | undefined;
  #renewable: RenewableSvid | undefined;
  #knownAs: SpiffeId | undefined;
  #provenMs = -Infinity;

  constructor(options: AgentSvidOptions) {
    this.#options = options;
  }

  /** Throws `failed_precondition`, reason `not_attested`, while there was none yet. */
  get current(): Watched<HeldSvid> {
    if (this.#current !== undefined) return this.#current;
    throw new PicketError('failed_precondition', 'not_attested', 'This host has not attested yet');
  }

  /** Whether there is one; it may have ended. */
  get isHeld(): boolean {
    return this.#renewable !== undefined;
  }

  /** Whose it is or was: the identity of an earlier run too, also where its SVID has ended. Undefined before the host ever attested. */
  get spiffeId(): SpiffeId | undefined {
    return this.#knownAs;
  }

  /** What may be shown to a server: nothing that has ended. */
  get credentials(): HeldSvid | undefined {
    return this.#renewable?.isEnded === false ? this.#renewable.svid : undefined;
  }

  /** Takes what an earlier run left, as far as it is still good. */
  restore(svid: HeldSvid): void {
    this.#knownAs = svid.spiffeId;
    if (this.#isGood(svid)) this.#hold(svid);
  }

  /** Takes what another process got and wrote down, which renews in our place. True where that is another one, and good. */
  adopt(svid: HeldSvid): boolean {
    if (svid.chainPem === this.#renewable?.svid.chainPem || !this.#isGood(svid)) return false;
    this.#hold(svid);
    return true;
  }

  /** Proves the host. Throws what the server refuses, or `unavailable`. */
  async attest(): Promise<GivenWithSvid> {
    const { attestation, clock } = this.#options;
    const given = await this.#take(await attestation.attest());
    this.#provenMs = clock.monotonicMs();
    return given;
  }

  /** Proves the host or renews, where either is due. Throws as `attest`. */
  async renewDue(): Promise<GivenWithSvid | undefined> {
    if (this.#untilProofMs() <= 0) return await this.attest();
    if (this.#renewable === undefined || this.#renewable.untilRenewalMs > 0) return undefined;
    return await this.#take(await this.#options.attestation.renew(this.#renewable.svid.spiffeId));
  }

  /** When something is to be done next, in milliseconds from now; 0: at once. */
  untilNextMs(): number {
    return Math.max(0, Math.min(this.#renewable?.untilRenewalMs ?? 0, this.#untilProofMs()));
  }

  /** When only the host's own proof can help: the SVID has ended, or the server does not take it any more. */
  #untilProofMs(): number {
    const { attestation, refusal, clock } = this.#options;
    if (!attestation.canReattest) return Infinity;
    if (this.#renewable === undefined || this.#renewable.isEnded) return 0;
    if (refusal.current === undefined) return Infinity;
    return this.#provenMs + PROVE_AGAIN_MS - clock.monotonicMs();
  }

  async #take({ svid, bundle }: AgentCredentials): Promise<GivenWithSvid> {
    await this.#options.store.writeAgentSvid(svid);
    const isOther = this.#knownAs !== svid.spiffeId;
    this.#hold(svid);
    this.#knownAs = svid.spiffeId;
    return { bundle, isOther };
  }

  #isGood({ notAfterMs }: HeldSvid): boolean {
    return notAfterMs > this.#options.clock.nowMs();
  }

  #hold(svid: HeldSvid): void {
    const { clock, random } = this.#options;
    this.#renewable = new RenewableSvid(svid, clock, random());
    if (this.#current === undefined) this.#current = new WatchedValue(svid);
    else this.#current.set(svid);
  }
}
