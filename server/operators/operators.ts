import { asc, eq, gt } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { OperatorRole } from '../../shared/protocol/operator.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { cutPage, parseNameCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { operators } from '../datastore/schema.ts';

/** Somebody who may call the server, by a client certificate. */
export interface Operator {
  /** Last segment of the SPIFFE ID `spiffe://<trust domain>/picket/operator/<name>`. */
  readonly name: string;
  /** What policy goes by. */
  readonly roles: readonly OperatorRole[];
  /** Serial of the certificate in force, lower-case hexadecimal: no other one is taken. */
  readonly certSerial: string;
  readonly notAfter: Date;
  readonly isRevoked: boolean;
  readonly createdAt: Date;
}

/** An operator with the certificate that was issued. */
export interface NewOperator {
  readonly name: string;
  readonly roles: readonly OperatorRole[];
  /** `IssuedCertificate` fits. */
  readonly certificate: { readonly serial: string; readonly notAfterMs: number };
}

export interface OperatorPage {
  readonly operators: readonly Operator[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** Who may operate the server, beside root on its own host. */
export class Operators {
  readonly #datastore: Datastore;
  readonly #clock: Clock;

  constructor(options: { readonly datastore: Datastore; readonly clock: Clock }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
  }

  /**
   * Keeps a new operator; only when this succeeds may the certificate be handed out. A name whose operator was revoked or whose certificate has ended may be
   * given again. Throws `already_exists`, reason `operator_exists`; `invalid_argument`: `operator_name_invalid`, `operator_roles_missing`.
   */
  async create(operator: NewOperator): Promise<Operator> {
    requireName(operator.name);
    if (operator.roles.length === 0)
      throw new PicketError(
        'invalid_argument',
        'operator_roles_missing',
        'An operator needs at least one role',
      );
    const row = this.#rowOf(operator);
    return await this.#datastore.write(async ({ db }) => {
      // A row lock cannot hold a name that has no row yet: the insert decides, and what it meets is judged under its lock.
      const inserted = await db.insert(operators).values(row).onConflictDoNothing().returning();
      if (inserted[0] !== undefined) return operatorOf(inserted[0]);
      const known = await db.select().from(operators).where(eq(operators.name, row.name)).for('update');
      if (known[0] !== undefined && this.#isInForce(known[0]))
        throw new PicketError(
          'already_exists',
          'operator_exists',
          `There is an operator "${row.name}" already`,
        );
      const replaced = await db.update(operators).set(row).where(eq(operators.name, row.name)).returning();
      return operatorOf(requireOperator(replaced[0], row.name));
    });
  }

  /**
   * The operator that calls with the certificate of `serial`, or undefined: unknown, revoked, ended, or another certificate than the one in force.
   */
  async findInForce(name: string, serial: string): Promise<Operator | undefined> {
    const operator = await this.find(name);
    if (operator === undefined || !this.#isInForce(operator)) return undefined;
    return operator.certSerial === serial ? operator : undefined;
  }

  /** The operator of that name, whatever its standing, or undefined. */
  async find(name: string): Promise<Operator | undefined> {
    const rows = await this.#datastore.db.select().from(operators).where(eq(operators.name, name));
    return rows[0] === undefined ? undefined : operatorOf(rows[0]);
  }

  /** Shuts an operator out from the next call on. Throws `not_found`, reason `operator_unknown`. */
  async revoke(name: string): Promise<Operator> {
    return await this.#datastore.write(async ({ db }) => {
      const rows = await db
        .update(operators)
        .set({ isRevoked: true })
        .where(eq(operators.name, name))
        .returning();
      return operatorOf(requireOperator(rows[0], name));
    });
  }

  /** A page of operators by name, the revoked ones too. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async list(page: { readonly cursor?: string; readonly limit?: number } = {}): Promise<OperatorPage> {
    const limit = requirePageSize(page.limit);
    const after = parseNameCursor(page.cursor);
    const rows = await this.#datastore.db
      .select()
      .from(operators)
      .where(after === undefined ? undefined : gt(operators.name, after))
      .orderBy(asc(operators.name))
      .limit(limit + 1);
    const { page: found, next } = cutPage(rows, { limit, keyOf: ({ name }) => [name] });
    return { operators: found.map(operatorOf), ...next };
  }

  #isInForce(operator: Pick<Operator, 'isRevoked' | 'notAfter'>): boolean {
    return !operator.isRevoked && operator.notAfter.getTime() > this.#clock.nowMs();
  }

  #rowOf(operator: NewOperator): typeof operators.$inferInsert & { readonly name: string } {
    return {
      name: operator.name,
      roles: [...new Set(operator.roles)].toSorted(),
      certSerial: operator.certificate.serial,
      notAfter: new Date(operator.certificate.notAfterMs),
      isRevoked: false,
      createdAt: new Date(this.#clock.nowMs()),
    };
  }
}

/** The row was validated when it was written. */
function operatorOf(row: typeof operators.$inferSelect): Operator {
  return { ...row, roles: row.roles as OperatorRole[] };
}

function requireName(name: string): void {
  if (/^[A-Za-z0-9._-]{1,64}$/.test(name) && name !== '.' && name !== '..') return;
  throw new PicketError(
    'invalid_argument',
    'operator_name_invalid',
    `Cannot name an operator "${name.slice(0, 70)}": 1 to 64 letters, digits, dots, dashes and underscores are expected`,
  );
}

function requireOperator<Row>(row: Row | undefined, name: string): Row {
  if (row !== undefined) return row;
  throw new PicketError('not_found', 'operator_unknown', `There is no operator "${name.slice(0, 70)}"`);
}
