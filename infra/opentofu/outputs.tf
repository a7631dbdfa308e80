output "lake" {
  description = "LAKEHOUSE_ROOT of this environment."
  value       = module.lake.access.root
}

output "glue_databases" {
  description = "Where silver and gold are registered."
  value       = module.catalog.databases
}

output "cluster" {
  description = "The ECS cluster."
  value       = module.orchestration.cluster_arn
}

output "run" {
  description = "What a run is started with: `make deploy` migrates and tests with it."
  value = {
    task_definition = module.orchestration.run_task_definition
    subnets         = module.network.network.private_subnets
    security_groups = [module.orchestration.run_group]
  }
}

output "services" {
  description = "The services that a deployment waits for."
  value       = concat(module.orchestration.services, var.trino.enabled ? module.query[0].services : [])
}

output "ui_address" {
  description = "What the UI's names are to point to."
  value       = module.orchestration.ui_address
}

output "run_policy" {
  description = "What runs and the code location may do."
  value       = module.orchestration.run_policy
}

output "ci_roles" {
  description = "The roles that workflows assume."
  value       = var.github_repository == "" ? {} : module.ci[0].roles
}

output "database_secret" {
  description = "Where RDS keeps the database's password: `make password` has it changed."
  value       = module.orchestration.database_secret
}
