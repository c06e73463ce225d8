import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { fields, formatSkew, table } from '../output.ts';

/** What an agent says of itself, for people. */
export function renderStatus(status: StatusAnswer): string {
  const { agent, policy, capture, audit, workloadApi } = status;
  const facts = fields([
    ['agent', agent?.spiffeId ?? '(not attested yet)'],
    ['until', agent?.notAfter ?? '-'],
    ['ready', status.missing === undefined ? 'yes' : `no: ${status.missing}`],
    ['version', `${status.version}, since ${status.startedAt}`],
    ['server', renderServer(status.server)],
    [
      'policy',
      policy === null
        ? 'none: everything is denied'
        : `version ${policy.version} (sequence ${policy.sequence})`,
    ],
    ['quarantine', renderQuarantine(status.quarantine)],
    ['gateway', renderGateway(status.gateway)],
    ['inspection', renderInspection(status.inspection)],
    ['audit mode', status.auditedServices.join(', ') || 'no service of this host'],
    ['users', renderUsers(status.userIssuers)],
    ['capture', renderCapture(capture)],
    ['transparent', renderTransparent(capture)],
    ['udp', renderUdp(status)],
    ['namespaces', renderNamespaces(status)],
    ['processes', renderHolderSearch(status.holderSearch)],
    ['hbone', renderHbone(status.hbone)],
    ['connections', String(status.connections)],
    ['workers', renderWorkers(status.workers)],
    ...renderPredecessor(status.predecessor),
    ['workload api', `${workloadApi.connections} connections, ${workloadApi.streams} streams`],
    ['audit', renderAudit(audit)],
  ]);
  const identities = table(
    status.identities,
    [
      { title: 'identity', of: (identity) => identity.spiffeId },
      { title: 'until', of: (identity) => identity.notAfter },
      { title: 'entry', of: (identity) => identity.entryId },
    ],
    'No workload identities.',
  );
  return [facts, identities, ...renderServices(status.services)].join('\n\n');
}

function renderServer(server: StatusAnswer['server']): string {
  const { isConnected, lastHeardAt, refusal, failure, isClockSkewed, clockSkewMs = 0 } = server;
  const facts = [
    isConnected ? 'connected' : `not connected, last heard ${lastHeardAt ?? 'never since start'}`,
    ...(refusal === undefined ? [] : [`turned away: ${refusal}`]),
    ...(failure === undefined || refusal !== undefined ? [] : [failure]),
    ...(isClockSkewed ? [`this host’s clock is ${formatSkew(clockSkewMs)}`] : []),
  ];
  return facts.join('; ');
}

function renderAudit({ depth, bytes, refused, refusing, isHeldBack }: StatusAnswer['audit']): string {
  return [
    `${depth} records to ship (${bytes} bytes), ${refused} refused`,
    ...(isHeldBack ? ['the server holds them back'] : []),
    ...(refusing === undefined ? [] : [`requests are refused now: ${refusing}`]),
  ].join('; ');
}

/** The members of services in several places, where there are such. */
function renderServices(services: StatusAnswer['services']): readonly string[] {
  if (services.length === 0) return [];
  const lines = services.flatMap(({ name, members }) => members.map((member) => ({ name, ...member })));
  return [
    table(
      lines,
      [
        { title: 'service', of: (m) => m.name },
        {
          title: 'member',
          of: (m) => (m.address.includes(':') ? `[${m.address}]:${m.port}` : `${m.address}:${m.port}`),
        },
        { title: 'distance', of: (m) => m.distance },
        { title: 'place', of: (m) => m.locality ?? '-' },
        { title: 'connections', of: (m) => String(m.connections) },
        { title: 'passed over', of: (m) => (m.ejectedSeconds === 0 ? '-' : `${m.ejectedSeconds} s`) },
        { title: 'last failure', of: (m) => m.lastFailure ?? '-' },
      ],
      'No service has a member.',
    ),
  ];
}

function renderQuarantine({ inForce, isThisHost, workloads }: StatusAnswer['quarantine']): string {
  if (isThisHost) return 'THIS HOST: nothing on it calls or is called';
  const own = workloads.length === 0 ? 'none of this host' : workloads.join(', ');
  return `${own}; ${inForce} in force in the mesh`;
}

function renderUsers(issuers: StatusAnswer['userIssuers']): string {
  const each = issuers.map(({ name, keys, readAt }) => `${name}: ${keys} keys, read ${readAt ?? 'never'}`);
  return each.join('; ') || 'no issuer is configured';
}

function renderHbone({ isAccepted, callable, peers }: StatusAnswer['hbone']): string {
  const [only = ''] = callable;
  const answered =
    callable.length === 1
      ? `answered as ${only}`
      : `not answered: ${callable.length} identities have listeners`;
  return `${isAccepted ? answered : 'turned off'}; ${peers} peers`;
}

function renderGateway({ isEnabled, identities }: StatusAnswer['gateway']): string {
  if (!isEnabled)
    return identities.length === 0 ? 'no' : `registered (${identities.join(', ')}), but not run as one`;
  return identities.join(', ') || 'run as one, but nothing is registered for this host';
}

function renderInspection(inspection: StatusAnswer['inspection']): string {
  return inspection === null
    ? 'no authority: TLS is not inspected'
    : `by ${inspection.authority}, until ${inspection.notAfter}`;
}

function renderUdp({ udp, capture }: StatusAnswer): string {
  if (udp === null && capture.mode === 'off') return 'left alone: the agent keeps no rules';
  if (udp === null) return 'dropped, but for capture.allow_udp and egress.resolvers';
  if (!udp.isHearing) return 'NOT DECIDED, and dropped: see the log for datagrams_not_heard';
  const inAll = (what: string, names: readonly string[]): string =>
    names.length === 0 ? '' : `; ${what}, and dropped, in ${names.join(', ')}`;
  const deaf = inAll('NOT HEARD', udp.deafIn);
  const otherUsers = inAll('not decided (a user namespace of its own)', udp.otherUsersIn);
  return `decided by the policy; ${udp.flows} of ${udp.maxFlows} flows${deaf}${otherUsers}`;
}

function renderCapture({ mode, isIntact, repairs }: StatusAnswer['capture']): string {
  if (mode === 'off') return 'not kept by the agent';
  return `${mode}, ${isIntact ? 'intact' : 'NOT intact'}, repaired ${repairs} times`;
}

function renderTransparent({
  transparentPorts,
  transparentLeftAlone,
  returnPath,
}: StatusAnswer['capture']): string {
  const leftAlone = transparentLeftAlone.map((port) => `port ${port}: REFUSED: the rules leave it alone`);
  if (transparentPorts.length === 0) return leftAlone.join('; ') || 'no listener asks for it';
  const state =
    returnPath?.isInForce === true
      ? `, repaired ${returnPath.repairs} times`
      : `: REFUSED: ${returnPath?.failure ?? 'no rules are kept'}`;
  return [`ports ${transparentPorts.join(', ')}${state}`, ...leftAlone].join('; ');
}

/** Those that were found in a folder with their number alone, unless something is wrong with one. */
function renderNamespaces({ namespaces, namespacesBeyond }: StatusAnswer): string {
  const isWell = ({ isFound, state, isIntact, repairs }: StatusAnswer['namespaces'][number]): boolean =>
    isFound && state === 'captured' && isIntact && repairs === 0;
  const well = Map.groupBy(namespaces.filter(isWell), ({ label }) => label);
  const parts = [
    ...Array.from(well, ([label, those]) => `${label} ${those.length} captured`),
    ...Object.entries(namespacesBeyond).map(([label, count]) => `${label} ${count} TOO MANY`),
    ...namespaces.filter((each) => !isWell(each)).map(renderNamespace),
  ];
  return parts.join('; ') || "the host's own alone";
}

function renderNamespace(namespace: StatusAnswer['namespaces'][number]): string {
  const { name, state, isIntact, repairs, why } = namespace;
  if (state !== 'captured') return `${name} ${state}${why === undefined ? '' : ` (${why})`}`;
  return `${name} captured${isIntact ? '' : ', NOT intact'}${repairs === 0 ? '' : `, repaired ${repairs} times`}`;
}

function renderWorkers(workers: StatusAnswer['workers']): string {
  if (workers.length === 0) return 'none: the agent carries the traffic itself';
  const ready = workers.filter(({ isReady }) => isReady).length;
  const restarts = workers.reduce((sum, worker) => sum + worker.restarts, 0);
  const each = workers.map(({ connections }) => connections).join(', ');
  return `${ready} of ${workers.length} run, started again ${restarts} times; connections of each: ${each}`;
}

function renderPredecessor(predecessor: StatusAnswer['predecessor']): readonly (readonly [string, string])[] {
  if (predecessor === undefined) return [];
  const { version, connections, endsAt } = predecessor;
  return [['replaced', `version ${version} still carries ${connections} connections, until ${endsAt}`]];
}

function renderHolderSearch(search: StatusAnswer['holderSearch']): string {
  switch (search) {
    case null:
      return 'not looked for yet';
    case 'bpf_walk':
      return 'found by a program in the kernel';
    case 'bpf_iterator':
      return 'found by a program on the kernel’s iterator';
    case 'proc':
      return 'found by reading /proc, since the kernel takes no program of the agent';
  }
}
