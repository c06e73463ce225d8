import { readFileSync } from 'node:fs';
import { encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { allocateNative, errnoName } from './libc.ts';
import { askNetlink, netlinkError, nextSequence } from './netlink.ts';
import {
  decodeRoutingMessages,
  DELETE_ROUTE,
  DELETE_RULE,
  encodeRouteChange,
  encodeRouteQuery,
  encodeRoutesQuery,
  encodeRuleChange,
  encodeRulesQuery,
  MAX_ROUTING_BYTES,
  NEW_ROUTE,
  NEW_RULE,
  type RoutingFamily,
  type RoutingMessage,
  type RoutingRule,
} from './route-message.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';

const NETLINK_ROUTE = 0;
/** By which rules and routes are known as ours, whatever the configuration was that made them; no routing daemon has this number (linux/rtnetlink.h). */
const PROTOCOL = 80;
/** Behind the host's own addresses and before everything that others usually have. */
const PRIORITY = 100;
const EEXIST = 17;
const ENOENT = 2;
const ESRCH = 3;
const ENETUNREACH = 101;
/** Nobody has these addresses (RFC 5737, RFC 3849): where they lead says where everything leads. */
const ELSEWHERE: Readonly<Record<RoutingFamily, Uint8Array>> = {
  [AF_INET]: encodeIpAddress('192.0.2.1'),
  [AF_INET6]: encodeIpAddress('2001:db8::1'),
};
/** A host with more rules and routes is a router of the Internet, and reading them all would hold up everything else. */
const MAX_READ = 65_536;

const question = allocateNative(MAX_ROUTING_BYTES);
const ASKED = {
  family: NETLINK_ROUTE,
  bytes: question,
  reason: 'return_routes',
  action: 'Cannot route the answers to connections from callers’ addresses',
};

/**
 * What becomes of a packet that bears the mark: it comes back; it does not, for want of rule or route, or because another rule comes before ours; it does not, because somebody else's route
 * is in the table.
 */
export type ReturnRoutesState = 'in_force' | 'absent' | 'table_taken';

/**
 * Takes what bears a mark to loopback, whatever its destination, in the agent's own network namespace: a rule, and a table with one route, of the same number as the mark; of each family
 * that the host speaks. They outlive the agent. Needs CAP_NET_ADMIN. All throw `unavailable`, reason `return_routes`.
 */
export class ReturnRoutes {
  readonly #id: number;

  constructor(id: number) {
    this.#id = id;
  }

  /** Asked of the kernel as a question of routing, so that others' rules before ours count too. */
  look(): ReturnRoutesState {
    const states = families().map((family) => this.#lookAt(family));
    return states.find((state) => state !== 'in_force') ?? 'in_force';
  }

  /** Puts in what is missing, and then takes away what another number made. */
  install(): void {
    for (const family of families()) {
      this.#change([EEXIST], (sequence) =>
        encodeRouteChange(question, sequence, this.#route(NEW_ROUTE, family)),
      );
      const rule = { family, priority: PRIORITY, mark: this.#id, table: this.#id, protocol: PROTOCOL };
      this.#change([EEXIST], (sequence) => encodeRuleChange(question, sequence, { type: NEW_RULE, rule }));
      this.#takeAway(
        family,
        this.#listOurs(family).filter(({ mark, table }) => mark !== this.#id || table !== this.#id),
      );
    }
  }

  /** Takes away all of ours, also what another number made; nothing there is no error. */
  remove(): void {
    for (const family of families()) {
      this.#takeAway(family, this.#listOurs(family));
      this.#takeRouteAway(family, this.#id);
    }
  }

  #lookAt(family: RoutingFamily): ReturnRoutesState {
    const to = ELSEWHERE[family];
    const [answer] = this.#ask((sequence) => encodeRouteQuery(question, sequence, { to, mark: this.#id }));
    if (answer?.kind === 'route' && answer.table === this.#id)
      return answer.isLocal ? 'in_force' : 'table_taken';
    // Routes that lead nowhere (blackhole, unreachable, prohibit), and rules that do, are told as errors, without the table.
    const isRefused = answer?.kind === 'result' && answer.errorNumber !== ENETUNREACH;
    return isRefused && this.#isTaken(family) ? 'table_taken' : 'absent';
  }

  #isTaken(family: RoutingFamily): boolean {
    const routes = this.#ask((sequence) => encodeRoutesQuery(question, sequence, family), 'all');
    return routes.some((each) => each.kind === 'route' && each.table === this.#id && !each.isLocal);
  }

  /** Rules of ours, and the routes of their tables; that of the number itself stays. */
  #takeAway(family: RoutingFamily, rules: readonly RoutingRule[]): void {
    for (const rule of rules)
      this.#change([ENOENT], (sequence) => encodeRuleChange(question, sequence, { type: DELETE_RULE, rule }));
    const tables = new Set(rules.map(({ table }) => table));
    tables.delete(this.#id);
    for (const table of tables) this.#takeRouteAway(family, table);
  }

  #takeRouteAway(family: RoutingFamily, table: number): void {
    this.#change([ESRCH], (sequence) =>
      encodeRouteChange(question, sequence, { ...this.#route(DELETE_ROUTE, family), table }),
    );
  }

  #route<T>(
    type: T,
    family: RoutingFamily,
  ): Readonly<Record<'table' | 'protocol', number>> & { readonly type: T; readonly family: RoutingFamily } {
    return { type, family, table: this.#id, protocol: PROTOCOL };
  }

  #listOurs(family: RoutingFamily): readonly RoutingRule[] {
    const messages = this.#ask((sequence) => encodeRulesQuery(question, sequence, family), 'all');
    return messages.flatMap((message) =>
      message.kind === 'rule' && message.rule.protocol === PROTOCOL ? [message.rule] : [],
    );
  }

  #change(harmless: readonly number[], write: (sequence: number) => number): void {
    const [answer] = this.#ask(write);
    if (answer?.kind !== 'result') throw netlinkError(ASKED, 'the kernel answers with something else');
    if (answer.errorNumber === 0 || harmless.includes(answer.errorNumber)) return;
    throw netlinkError(ASKED, errnoName(answer.errorNumber));
  }

  #ask(write: (sequence: number) => number, extent: 'one' | 'all' = 'one'): readonly RoutingMessage[] {
    const sequence = nextSequence(ASKED.family);
    const length = write(sequence);
    return askNetlink({ ...ASKED, length }, (receive) => {
      const messages = [...decodeRoutingMessages(receive(), sequence)];
      if (extent === 'one') return messages;
      while (!messages.some(isLast)) {
        if (messages.length > MAX_READ) throw netlinkError(ASKED, `there are more than ${MAX_READ}`);
        messages.push(...decodeRoutingMessages(receive(), sequence));
      }
      return messages;
    });
  }
}

function isLast({ kind }: RoutingMessage): boolean {
  return kind === 'end' || kind === 'result';
}

function families(): readonly RoutingFamily[] {
  return speaksIpv6() ? [AF_INET, AF_INET6] : [AF_INET];
}

/** Whether loopback has an address of IPv6: without it no route of that family leads there. */
function speaksIpv6(): boolean {
  try {
    return readFileSync('/proc/net/if_inet6', 'utf8').includes(' lo\n');
  } catch {
    return false;
  }
}
