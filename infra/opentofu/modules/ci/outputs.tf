output "roles" {
  description = "The roles that workflows assume, by what they are for."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}
