import { watchRtnetlink, type RtnetlinkWatchOptions } from './rtnetlink-watch.ts';

/** Hears of every change of this host's addresses at once. As `watchRtnetlink`; reason `address_watch`. */
export async function watchAddresses(
  listeners: Pick<RtnetlinkWatchOptions, 'onChange' | 'onEnd'>,
): Promise<() => void> {
  return await watchRtnetlink({
    ...listeners,
    groups: ['ipv4Addresses', 'ipv6Addresses'],
    reason: 'address_watch',
    action: 'Cannot hear of changes of the host’s addresses',
  });
}

/** Hears of every change of this host's routes and interfaces at once. As `watchRtnetlink`; reason `route_watch`. */
export async function watchRoutes(
  listeners: Pick<RtnetlinkWatchOptions, 'onChange' | 'onEnd'>,
): Promise<() => void> {
  return await watchRtnetlink({
    ...listeners,
    groups: ['links', 'ipv4Routes', 'ipv6Routes'],
    reason: 'route_watch',
    action: 'Cannot hear of changes of the host’s routes',
  });
}
