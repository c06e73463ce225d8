import type { OperatorCaller } from '../../caller.ts';
import { routesFor } from '../../route.ts';

/** The `defineRoute` of everything that operators may ask. */
export const defineOperatorRoute = routesFor<OperatorCaller>();
