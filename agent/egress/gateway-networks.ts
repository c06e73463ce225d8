import { isIP } from 'node:net';
import type { AgentConfig } from '../config/config.ts';
import type { GatewayNetworks } from '../proxy/outside/gateway-reach.ts';
import { buildNetworkList } from './network-list.ts';

/** The networks that the configuration names; the servers of the mesh, as far as they are named by address, are refused as well. */
export function buildGatewayNetworks({
  egress,
  servers,
}: Pick<AgentConfig, 'egress' | 'servers'>): GatewayNetworks {
  const refuses = buildNetworkList(egress.gatewayRefuses);
  for (const { host } of servers)
    if (isIP(host) !== 0) refuses.addAddress(host, isIP(host) === 4 ? 'ipv4' : 'ipv6');
  return { refuses, allows: buildNetworkList(egress.gatewayAllows) };
}
