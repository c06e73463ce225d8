import type { Command } from 'commander';
import { workloadCertificates } from '../../shared/protocol/operator.ts';
import { withExamples } from '../example.ts';
import { table } from '../output.ts';
import { openSession } from '../session.ts';

/** `picket workload`: what a workload identity has right now. */
export function registerWorkload(program: Command): void {
  const workload = program.command('workload').description('workload identities and their certificates');
  withExamples(
    workload
      .command('certificate <spiffe-id>')
      .description('current certificates of an identity, one for each host')
      .option('--pem', 'print the chains as PEM')
      .action(certificate),
    'picket workload certificate spiffe://example.org/ns/shop/sa/invoices',
  );
}

async function certificate(
  spiffeId: string,
  options: { readonly pem?: boolean },
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  const answer = await client.get(
    `/workloads/${encodeURIComponent(spiffeId)}/certificate`,
    workloadCertificates,
  );
  output.result(answer, ({ certificates }) => {
    if (options.pem === true) return certificates.map((c) => c.chainPem.trimEnd()).join('\n');
    return table(
      certificates,
      [
        { title: 'serial', of: (c) => c.serial },
        { title: 'node', of: (c) => c.nodeId },
        { title: 'valid from', of: (c) => c.notBefore },
        { title: 'until', of: (c) => c.notAfter },
      ],
      'No certificate of that identity is valid now.',
    );
  });
}
