import { allocateNative, errnoName } from './libc.ts';
import { askNetlink, netlinkError, nextSequence } from './netlink.ts';
import type { NetworkNamespace } from './network-namespace.ts';
import { NETLINK_ROUTE } from './rtnetlink-watch.ts';
import {
  decodeRtnetlinkAnswer,
  encodeRtnetlinkQuery,
  RTNETLINK_QUERY_BYTES,
  type PairedLink,
  type RtnetlinkMessage,
  type RtnetlinkQuery,
} from './rtnetlink-message.ts';

const question = allocateNative(RTNETLINK_QUERY_BYTES);
const ASKED = {
  family: NETLINK_ROUTE,
  bytes: question,
  reason: 'namespace_routes',
  action: 'Cannot ask where the routes of the host lead',
};
/** How often a dump is begun again where something changed meanwhile. */
const MAX_DUMPS = 8;
/** A host with more routes than this is a router of the Internet, and reading them all would hold up everything else. */
const MAX_ROUTES = 65_536;

/**
 * The addresses that the host's own routes lead to, of each of some namespaces: routes to one single address, in the main table, made by somebody in the host's namespace, straight to
 * the host's side of a veth pair whose other side is in that namespace. An address with routes to two different places is nobody's. Who is root in a namespace of the host can change neither
 * the routes nor which pair leads where: only give up his own end. Throws `unavailable`, reason `namespace_routes`.
 */
export function findRoutedAddresses(
  namespaces: readonly NetworkNamespace[],
): ReadonlyMap<string, NetworkNamespace> {
  const byId = numberAll(namespaces);
  if (byId.size === 0) return new Map();
  const links = new Map(
    askLinks().map(({ interfaceIndex, namespaceId }) => [interfaceIndex, namespaceId] as const),
  );
  const routes = (['ipv4', 'ipv6'] as const).flatMap((family) =>
    ask({ kind: 'routes', family }).flatMap(asRoute),
  );
  const ways = Map.groupBy(routes, ({ address }) => address);
  const found = new Map<string, NetworkNamespace>();
  for (const [address, ends] of ways) {
    const interfaces = new Set(ends.map(({ interfaceIndex }) => interfaceIndex));
    const [only] = interfaces;
    const namespace = interfaces.size === 1 && only !== undefined ? byId.get(links.get(only)) : undefined;
    if (namespace !== undefined) found.set(address, namespace);
  }
  return found;
}

/**
 * The host's own ends of veth pairs, by the number of the namespace in which the other end is, but for those that are part of a bridge or the like: what comes by one of them, nobody else has sent. Throws `unavailable`, reason
 * `namespace_routes`.
 */
export function readInterfacesByNamespace(): ReadonlyMap<number, readonly number[]> {
  const found = new Map<number, number[]>();
  for (const { namespaceId, interfaceIndex, isPart } of askLinks()) {
    if (isPart) continue;
    const those = found.get(namespaceId);
    if (those === undefined) found.set(namespaceId, [interfaceIndex]);
    else those.push(interfaceIndex);
  }
  return found;
}

/** The number under which the host knows a namespace, which stays its own while it is held open; undefined before links to it were told. Throws `unavailable`, reason `namespace_routes`. */
export function findNamespaceId(namespace: NetworkNamespace): number | undefined {
  const [answer] = ask({ kind: 'namespace', fd: namespace.fd });
  return answer?.kind === 'namespace' ? answer.id : undefined;
}

function askLinks(): readonly PairedLink[] {
  return ask({ kind: 'links' }).flatMap((message) => (message.kind === 'link' ? [message.link] : []));
}

/**
 * By the numbers under which the host knows them. They are asked before the links are: a namespace that is held open keeps its number, so that none of what is read later can be that of
 * another one. Those that have none yet get one when links are told.
 */
function numberAll(
  namespaces: readonly NetworkNamespace[],
): ReadonlyMap<number | undefined, NetworkNamespace> {
  const number = (): Map<number | undefined, NetworkNamespace> =>
    new Map(namespaces.map((each) => [findNamespaceId(each), each]));
  let byId = number();
  if (byId.has(undefined)) {
    ask({ kind: 'links' });
    byId = number();
  }
  byId.delete(undefined);
  return byId;
}

function asRoute(message: RtnetlinkMessage) {
  return message.kind === 'route' ? [message.route] : [];
}

function ask(query: RtnetlinkQuery): readonly RtnetlinkMessage[] {
  for (let dumps = 0; dumps < MAX_DUMPS; dumps++) {
    const messages = askOnce(query);
    if (messages !== 'interrupted') return messages;
  }
  throw netlinkError(ASKED, 'they change faster than they are read');
}

function askOnce(query: RtnetlinkQuery): readonly RtnetlinkMessage[] | 'interrupted' {
  const sequence = nextSequence(ASKED.family);
  const length = encodeRtnetlinkQuery(question, sequence, query);
  return askNetlink({ ...ASKED, length }, (receive) => {
    const found: RtnetlinkMessage[] = [];
    let wasInterrupted = false;
    for (;;) {
      const { messages, isInterrupted } = decodeRtnetlinkAnswer(receive(), sequence);
      wasInterrupted ||= isInterrupted;
      for (const message of messages) {
        if (message.kind === 'error') throw netlinkError(ASKED, errnoName(message.errorNumber));
        if (message.kind === 'done') return wasInterrupted ? 'interrupted' : found;
        found.push(message);
        // The only one whose answer is a single message.
        if (message.kind === 'namespace') return found;
      }
      if (found.length > MAX_ROUTES) throw netlinkError(ASKED, `there are more than ${MAX_ROUTES}`);
    }
  });
}
