import { Resolver } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { DomainCheck } from './domain-check.ts';

export interface DnsDomainCheckOptions {
  /** `address:port` of each; those of the host's own configuration when there are none. */
  readonly resolvers: readonly string[];
  readonly clock: Clock;
}

/** An address that a name led to, at the family that was asked for. */
interface Seen {
  /** By the monotonic clock, milliseconds. */
  untilMs: number;
}

/** What is known of one name and one family. */
interface Answers {
  readonly addresses: Map<string, Seen>;
  askedAtMs: number;
}

const TIMEOUT_MS = 2000;
const TRIES = 2;
const MAX_LOOKUPS = 64;
/** Of those, for one asker. */
const MAX_LOOKUPS_OF_ONE = MAX_LOOKUPS / 4;
const MAX_NAMES = 4096;
/** Of one name: a lookup may show others each time. */
const MAX_ADDRESSES = 32;
/** Names with many addresses show others at each look: a program that was told one of them uses it for a while. */
const MIN_KEPT_MS = 300_000;
const MAX_KEPT_MS = 3_600_000;
/** A name that did not lead to an address is not asked again before. */
const MIN_REPEAT_MS = 1000;

/** Asks DNS, remembers the answers for as long as they live and five minutes at least, and joins equal questions. */
export class DnsDomainCheck implements DomainCheck {
  readonly #resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES });
  readonly #clock: Clock;
  /** In the order of their last lookup. */
  readonly #known = new Map<string, Answers>();
  readonly #lookups = new Map<string, Promise<Answers>>();
  /** How many of them run for each asker. */
  readonly #running = new Map<string, number>();

  constructor({ resolvers, clock }: DnsDomainCheckOptions) {
    if (resolvers.length > 0) this.#resolver.setServers(resolvers);
    this.#clock = clock;
  }

  async leadsTo(domain: string, address: string, asker: string): Promise<boolean> {
    const family = isIPv6(address) ? 6 : 4;
    const key = `${family} ${domain}`;
    const known = this.#known.get(key);
    if (known !== undefined && this.#isSeen(known, address)) return true;
    if (known !== undefined && this.#clock.monotonicMs() - known.askedAtMs < MIN_REPEAT_MS) return false;
    return this.#isSeen(await this.#ask(key, { domain, family, asker }), address);
  }

  #isSeen({ addresses }: Answers, address: string): boolean {
    const seen = addresses.get(canonical(address));
    return seen !== undefined && seen.untilMs > this.#clock.monotonicMs();
  }

  async #ask(
    key: string,
    { domain, family, asker }: { readonly domain: string; readonly family: 4 | 6; readonly asker: string },
  ): Promise<Answers> {
    const running = this.#lookups.get(key);
    if (running !== undefined) return await running;
    const isTooMuch =
      this.#lookups.size >= MAX_LOOKUPS || (this.#running.get(asker) ?? 0) >= MAX_LOOKUPS_OF_ONE;
    if (isTooMuch) return { addresses: new Map(), askedAtMs: 0 };
    const lookup = this.#look(key, domain, family).finally(() => {
      this.#lookups.delete(key);
      this.#count(asker, -1);
    });
    this.#lookups.set(key, lookup);
    this.#count(asker, 1);
    return await lookup;
  }

  #count(asker: string, change: 1 | -1): void {
    const running = (this.#running.get(asker) ?? 0) + change;
    if (running === 0) this.#running.delete(asker);
    else this.#running.set(asker, running);
  }

  async #look(key: string, domain: string, family: 4 | 6): Promise<Answers> {
    const found = await this.#resolve(domain, family);
    const nowMs = this.#clock.monotonicMs();
    const addresses = this.#known.get(key)?.addresses ?? new Map<string, Seen>();
    for (const [address, { untilMs }] of addresses) if (untilMs <= nowMs) addresses.delete(address);
    for (const { address, ttl } of found.slice(0, MAX_ADDRESSES)) {
      const name = canonical(address);
      addresses.delete(name);
      addresses.set(name, { untilMs: nowMs + Math.min(MAX_KEPT_MS, Math.max(MIN_KEPT_MS, ttl * 1000)) });
    }
    for (const oldest of addresses.keys()) {
      if (addresses.size <= MAX_ADDRESSES) break;
      addresses.delete(oldest);
    }
    const answers = { addresses, askedAtMs: nowMs };
    this.#keep(key, answers);
    return answers;
  }

  async #resolve(
    domain: string,
    family: 4 | 6,
  ): Promise<readonly { readonly address: string; readonly ttl: number }[]> {
    try {
      return family === 6
        ? await this.#resolver.resolve6(domain, { ttl: true })
        : await this.#resolver.resolve4(domain, { ttl: true });
    } catch {
      // No such name, no answer, no resolver: it leads nowhere.
      return [];
    }
  }

  #keep(key: string, answers: Answers): void {
    this.#known.delete(key);
    this.#known.set(key, answers);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_NAMES && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** One text for an address, however it is written. */
function canonical(address: string): string {
  return isIPv6(address) ? new URL(`http://[${address}]`).hostname : address;
}
