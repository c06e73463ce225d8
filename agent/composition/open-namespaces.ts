import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { OwnAddresses } from '../directory/own-addresses.ts';
import { KeptRoutes } from '../namespaces/kept-routes.ts';
import type { NamespaceSettings, NamespaceSource } from '../namespaces/namespace-source.ts';
import { Namespaces } from '../namespaces/namespaces.ts';
import { findRoutedAddresses } from '../native/namespace-routes.ts';

/** How long is waited for others that come or go at the same time, in milliseconds: each reading of the routes holds everything else up. */
const TOGETHER_MS = 10;

/** Where other namespaces of this host stand, and what the host's routes lead to; undefined where the host's own is captured alone. */
export function openNamespaces(
  { named, patterns }: NamespaceSettings,
  host: {
    readonly source: NamespaceSource;
    readonly addresses: OwnAddresses;
    readonly clock: Clock;
    readonly log: Log;
  },
): Namespaces | undefined {
  if (named.length + patterns.length === 0) return undefined;
  const { source, addresses, clock, log } = host;
  const routes = new KeptRoutes({
    read: findRoutedAddresses,
    again: () => namespaces.followRoutes(),
    clock,
    log,
  });
  const namespaces = new Namespaces({
    source,
    routedIn: patterns.flatMap(({ routedIn }) => routedIn),
    findRouted: routes.find,
    isOwnAddress: (address) => addresses.has(address),
    soon: (work) => void clock.schedule(TOGETHER_MS, work),
  });
  return namespaces;
}
