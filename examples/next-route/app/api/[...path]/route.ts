import { handler } from "../../../castellan.ts"

export const GET = handler
export const POST = handler
export const PUT = handler
export const PATCH = handler
export const DELETE = handler

/** It needs Node, and nothing of it can be computed beforehand. */
export const runtime = "nodejs"
export const dynamic = "force-dynamic"
