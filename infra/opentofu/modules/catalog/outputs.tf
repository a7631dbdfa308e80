output "databases" {
  description = "Glue's databases, by zone."
  value       = { for zone, database in aws_glue_catalog_database.zone : zone => database.name }
}

output "workgroup" {
  description = "Athena's workgroup."
  value       = aws_athena_workgroup.lake.name
}
